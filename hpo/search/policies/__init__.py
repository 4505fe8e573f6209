"""How each policy suggests a configuration, and what it remembers of the trials before.

Never: decides when a trial begins, or reads the ledger.
"""
