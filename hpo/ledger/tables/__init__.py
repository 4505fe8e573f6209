"""Owns Optuna's record of a study's trials: read at once, written in one transaction each.

Optuna's own interface needs a transaction for each value of a trial and reads ten thousand trials in many seconds. So
`reading` and `transactions` use Optuna's tables, where their version is known; everywhere else, and in memory, Optuna's
interface does the same. Never decides what is recorded: that is `hpo.ledger.writer`.
"""
