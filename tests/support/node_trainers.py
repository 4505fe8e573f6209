"""The synthetic trainer on a cluster with a node that fails every trial, which a variable in its environment tells."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from tests import synthetic
from trainers.api import Context, EpochMetrics, TrialConfig

NO_FILE = "HPO_TEST_NO_FILE"
FLAG = "HPO_TEST_FLAG"


def train(config: TrialConfig, context: Context) -> Iterator[EpochMetrics]:
    """As `tests.synthetic.train`, but elsewhere it waits until so many trials have failed: `wait_for` files in the
    folder `marks`."""
    marks = Path(str(config.extra["marks"]))
    if os.environ.get(NO_FILE):
        (marks / Path(context.checkpoints.url).name).touch()
        raise FileNotFoundError("/opt/licence.key")
    deadline = time.monotonic() + 120
    while len(list(marks.iterdir())) < int(config.extra["wait_for"]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return synthetic.train(config, context)


def train_unless_flagged(config: TrialConfig, context: Context) -> Iterator[EpochMetrics]:
    """As `tests.synthetic.train`, but it fails where the environment names a file that is there."""
    if (flag := os.environ.get(FLAG)) and Path(flag).exists():
        raise FileNotFoundError(flag)
    return synthetic.train(config, context)
