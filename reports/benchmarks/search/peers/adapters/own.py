"""The samplers of this project with its ASHA, and Ray's OptunaSearch with Ray's ASHAScheduler."""

from __future__ import annotations

from hpo.search.samplers import make_sampler
from reports.benchmarks.search.peers.adapters.with_optuna import distributions
from reports.benchmarks.search.peers.protocol import Peer, Problem
from reports.benchmarks.search.simulation import OwnSearch, StockSearch, Stopping


def gp(problem: Problem) -> Peer:
    """The suggested default."""
    return _own("gp", problem)


def random(problem: Problem) -> Peer:
    """Random search with ASHA."""
    return _own("random", problem)


def stock(problem: Problem) -> Peer:
    """Ray and Optuna, as in the other benchmark of the search."""
    return Stopping(StockSearch(problem.seed, distributions(problem)))


def _own(policy: str, problem: Problem) -> Peer:
    space = distributions(problem)
    sampler = make_sampler(policy, seed=problem.seed, horizon=problem.epochs, distributions=space)
    return Stopping(OwnSearch(sampler, space))
