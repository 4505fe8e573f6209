"""Shared fixtures. One Ray serves every test that needs one; each test gets its own home folder."""

from __future__ import annotations

import os

# Two OpenBLAS threads spin against each other on small matrices: a test of the sampler took ten times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# The suite's processes share the cores, and so do threads of torch, which would spin on them while they wait.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Clusters of the tests start no process before a trial asks for it, as a study's own Ray does not.
os.environ.setdefault("RAY_enable_worker_prestart", "0")
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # tests of `trainers` run where nothing of `hpo` is installed
    from hpo.home import Home
    from hpo.spec.study import Spec

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home folder."""
    from hpo.home import Home

    return Home.at(tmp_path / "home").create()


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A Ray on this machine, shared by the session; `hpo.driver.run` uses one that is already up."""
    import ray

    path = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{REPOSITORY}{os.pathsep}{path}" if path else str(REPOSITORY)
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def cifar_root() -> Path:
    """The folder with the official CIFAR-10 files."""
    root = os.environ.get("HPO_TEST_CIFAR")
    if not root:
        pytest.skip("HPO_TEST_CIFAR does not name a folder with cifar-10-batches-py")
    return Path(root)


def synthetic_spec(name: str = "synthetic", **changes: object) -> Spec:
    """A study of the synthetic trainer: eight epochs, `extra.quality` searched."""
    from hpo.spec.study import Spec

    settings: dict[str, object] = {
        "study": name,
        "trainer": "tests.synthetic:train",
        "train": {"epochs": 8, "progressive": {"stages": 1}},
        "extra": {"seconds": 0.0},
        "space": {"extra.quality": {"type": "float", "low": 0.0, "high": 1.0}},
        "enqueue": [{"extra.quality": 0.5}],
        "asha": {"reduction_factor": 2},
        "search": {"policy": "random"},
        "budget": {"trials": 8},
    }
    return Spec.model_validate(settings | changes)
