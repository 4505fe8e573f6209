"""Fixtures of the integration tests."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder of decoded data sets that all tests share, as the trials of one machine do."""
    return str(tmp_path_factory.mktemp("cache"))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def serve(port: int, folder: Path) -> None:
    """MLflow's server application, in a process that has its imports behind it."""
    from mlflow.server import constants

    os.environ[constants.BACKEND_STORE_URI_ENV_VAR] = f"sqlite:///{folder / 'server.db'}"
    os.environ[constants.ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
    os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR] = str(folder / "artifacts")
    os.environ[constants.SERVE_ARTIFACTS_ENV_VAR] = "true"
    from mlflow.server import app
    from werkzeug.serving import run_simple

    with (folder / "server.log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    run_simple("127.0.0.1", port, app, threaded=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """The URI of an MLflow server, with a password that it does not ask for, and its process id."""
    port = free_port()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.driver_preload"])
    process = context.Process(target=serve, args=(port, tmp_path))
    process.start()
    deadline = time.monotonic() + 120
    while True:
        try:
            # Not /health: the first question about experiments makes the database, which `mlflow server` does earlier.
            query = "api/2.0/mlflow/experiments/get?experiment_id=0"
            urllib.request.urlopen(f"http://127.0.0.1:{port}/{query}", timeout=60).close()
            break
        except OSError:
            assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()
            time.sleep(0.1)
    yield f"http://person:s3cret-mlflow@127.0.0.1:{port}", process.pid
    process.kill()
    process.join()
