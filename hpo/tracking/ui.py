"""`hpo ui`: MLflow's own UI on the home folder's store, for this machine only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from typing import IO

from hpo.errors import InfrastructureError, UsageError
from hpo.home import Home
from hpo.tracking.runs import RETRAINING_TAG, STUDY_TAG, TRIAL_TAG

START_TIMEOUT_S = 120
END_TIMEOUT_S = 10


def serve(home: Home, name: str | None, port: int) -> int:
    """Serve until Ctrl-C, which is the way to end it and no failure; returns the exit code.

    Raises:
        UsageError: nothing was tracked in this home folder, or the port is taken.
        InfrastructureError: the server did not start.
    """
    if not (home.path / "mlflow.db").is_file():
        raise UsageError(f"no study was tracked in {home.path}; run one first, or name another home folder by --home")
    chosen = _free_port(port)
    address = f"http://127.0.0.1:{chosen}"
    page = study_page(home, name)
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(chosen), "--workers", "1",
        "--backend-store-uri", home.mlflow_url, "--default-artifact-root", home.artifacts.as_uri(), "--serve-artifacts",
    ]  # fmt: skip
    environment = os.environ | {"MLFLOW_TRACKING_URI": ""}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    words = tempfile.TemporaryFile()  # noqa: SIM115 -- lives as long as the server; a pipe that nobody reads would fill
    # A session of its own, so that Ctrl-C reaches this process alone and the server is ended once, in order.
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=words, env=environment, start_new_session=True
    )
    try:
        _wait(process, address, words)
        print(f"{address}{page}", flush=True)
        print("Ctrl-C ends it.", file=sys.stderr)
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # once more would leave the server behind
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server, by force where it does not end by itself."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(
                f"port {port} on 127.0.0.1 is taken ({error.strerror}); choose another by --port, 0 for any"
            ) from error
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], address: str, words: IO[bytes]) -> None:
    limit = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < limit:
        if process.poll() is not None:
            words.seek(0)
            said = words.read().decode(errors="replace")[-2000:]
            raise InfrastructureError(f"the MLflow server ended at once:\n{said}")
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise InfrastructureError(f"the MLflow server did not answer within {START_TIMEOUT_S} s")


def study_page(home: Home, name: str | None) -> str:
    """The path of a study's page in MLflow's UI, e.g. `/#/experiments/1/runs/abc`; `/` where there is none."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=home.mlflow_url)
    experiments = [one.experiment_id for one in client.search_experiments()]
    query = f"tags.`{STUDY_TAG}` = '{name}'" if name else f"tags.`{STUDY_TAG}` LIKE '%'"
    runs = client.search_runs(experiments, query, order_by=["attributes.start_time DESC"], max_results=1000)
    parents = [run for run in runs if not {TRIAL_TAG, RETRAINING_TAG} & run.data.tags.keys()]
    if not parents:
        if name:
            raise UsageError(f"MLflow in {home.path} has no study {name!r}; `hpo doctor {name}` writes it there")
        return "/"
    return f"/#/experiments/{parents[0].info.experiment_id}/runs/{parents[0].info.run_id}"
