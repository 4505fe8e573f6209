"""DEHB by its ask and tell."""

from __future__ import annotations

import tempfile
from typing import Any

from dehb import DEHB

from reports.benchmarks.search.peers.adapters.configspace import params, space
from reports.benchmarks.search.peers.adapters.jobs import Job, Jobs
from reports.benchmarks.search.peers.protocol import Peer, Problem


def dehb(problem: Problem) -> Peer:
    # `n_workers` counts the Dask workers of DEHB's own loop. Whoever asks and tells may have any number.
    tool = DEHB(
        cs=space(problem),
        min_fidelity=1,
        max_fidelity=problem.epochs,
        n_workers=1,
        seed=problem.seed,
        output_path=tempfile.mkdtemp(dir="."),
        save_freq=None,
        log_level="ERROR",
    )

    def ask() -> Job:
        asked: Any = tool.ask()
        return Job(asked, params(asked["config"]), max(1, round(asked["fidelity"])))

    def tell(asked: Any, value: float) -> None:
        tool.tell(asked, {"fitness": 1 - value, "cost": asked["fidelity"]})

    return Jobs(problem.epochs, ask, tell)
