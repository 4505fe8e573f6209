"""SMAC's multi-fidelity facade (Hyperband and a random forest) by its ask and tell."""

from __future__ import annotations

import tempfile
from typing import Any

from smac import MultiFidelityFacade, Scenario
from smac.runhistory import TrialValue

from reports.benchmarks.search.peers.adapters.configspace import params, space
from reports.benchmarks.search.peers.adapters.jobs import Job, Jobs
from reports.benchmarks.search.peers.protocol import Peer, Problem

TRIALS = 1000
"""Evaluations after which SMAC would end: more than the budget has room for."""


def multi_fidelity(problem: Problem) -> Peer:
    scenario = Scenario(
        space(problem),
        deterministic=True,
        n_trials=TRIALS,
        min_budget=1,
        max_budget=problem.epochs,
        seed=problem.seed,
        output_directory=tempfile.mkdtemp(dir="."),
    )
    tool = MultiFidelityFacade(scenario, _never_called, overwrite=True, logging_level=False)

    def ask() -> Job:
        asked: Any = tool.ask()
        return Job(asked, params(asked.config), max(1, round(asked.budget)))

    def tell(asked: Any, value: float) -> None:
        tool.tell(asked, TrialValue(cost=1 - value), save=False)

    return Jobs(problem.epochs, ask, tell)


def _never_called(config: Any, seed: int, budget: float) -> float:
    raise NotImplementedError("SMAC is asked and told")
