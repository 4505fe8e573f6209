"""NePS' PriorBand with its ASHA base by its ask and tell. It gets no prior, as no other search has one."""

from __future__ import annotations

import random
from typing import Any

import neps
import numpy as np
import torch

from reports.benchmarks.search.peers.adapters.jobs import Job, Jobs
from reports.benchmarks.search.peers.protocol import Parameter, Peer, Problem

EPOCHS = "epochs"


def priorband(problem: Problem) -> Peer:
    for seed in (random.seed, np.random.seed, torch.manual_seed):  # NePS draws from the generators that all share
        seed(problem.seed)
    attributes = {one.name: _parameter(one) for one in problem.parameters}
    attributes[EPOCHS] = neps.IntegerFidelity(1, problem.epochs)
    space = type("Space", (neps.PipelineSpace,), attributes)()
    tool = neps.AskAndTell(neps.algorithms.priorband(space, base="asha"))

    def ask() -> Job:
        trial = tool.ask()
        values = {name: value.item() if hasattr(value, "item") else value for name, value in trial.config.items()}
        return Job(trial.metadata.id, values, values.pop(EPOCHS))

    def tell(asked: str, value: float) -> None:
        tool.tell(asked, 1 - value)

    return Jobs(problem.epochs, ask, tell)


def _parameter(one: Parameter) -> Any:
    if one.integer:
        return neps.Integer(round(one.low), round(one.high), log=one.log)
    return neps.Float(one.low, one.high, log=one.log)
