"""`hpo ui`: serve MLflow's own UI for the home folder, to this machine only."""

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
from hpo.home import Home, confirmed_study
from hpo.tracking.places import follow
from hpo.tracking.ui.view import address
from hpo.tracking.upkeep.naming import STUDY_TAG, view_tag

START_TIMEOUT_S = 120
END_TIMEOUT_S = 10


def serve(home: Home, name: str | None, port: int) -> int:
    """Serve until Ctrl-C, and return the exit code: 0 after Ctrl-C, else that of the server.

    Prints the address of the page of study `name`, or of the study that ran last for None. Port 0 means any free port.

    Raises:
        UsageError: the home folder has no tracked study or not that one, or the port is in use.
        InfrastructureError: the server did not start.
    """
    if not (home.path / "mlflow.db").is_file():
        raise UsageError(
            f"{home.path} has no tracked study; run a study first, or name another home folder with --home"
        )
    follow(home)
    chosen = _free_port(port)
    address = f"http://127.0.0.1:{chosen}"
    page = study_page(home, name)
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(chosen), "--workers", "1",
        "--backend-store-uri", home.mlflow_url, "--default-artifact-root", home.artifacts.as_uri(), "--serve-artifacts",
    ]  # fmt: skip
    environment = os.environ | {"MLFLOW_TRACKING_URI": ""}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = tempfile.TemporaryFile()  # noqa: SIM115 -- open as long as the server runs; an unread pipe would fill up
    # A session of its own, so that Ctrl-C reaches only this process, which then ends the server once.
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=environment, start_new_session=True)
    try:
        _wait(process, address, log)
        print(f"{address}{page}", flush=True)
        print("Stop the server with Ctrl-C.", file=sys.stderr)
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C would leave the server running
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server; kill it if it takes longer than `END_TIMEOUT_S`."""
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
                f"port {port} on 127.0.0.1 is in use ({error.strerror}); choose another with --port; 0 means any"
            ) from error
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], address: str, log: IO[bytes]) -> None:
    """Wait until the server answers."""
    limit = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < limit:
        if process.poll() is not None:
            log.seek(0)
            output = log.read().decode(errors="replace")[-2000:]
            raise InfrastructureError(f"the MLflow server did not start:\n{output}")
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise InfrastructureError(f"the MLflow server did not answer within {START_TIMEOUT_S} s")


def study_page(home: Home, name: str | None) -> str:
    """The path of the list of a study's runs in MLflow's pages; see `hpo.tracking.ui.view.address`.

    The study that ran last for no `name`; `/` if there is none.

    Raises:
        UsageError: MLflow in the home folder has no study `name`.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=home.mlflow_url)
    experiments = {experiment.experiment_id: experiment for experiment in client.search_experiments()}
    query = f"tags.`{STUDY_TAG}` = '{name}'" if name else f"tags.`{STUDY_TAG}` LIKE '%'"
    newest = client.search_runs(list(experiments), query, order_by=["attributes.start_time DESC"], max_results=1)
    if not newest:
        if name:
            command = home.command(f"doctor {name}")
            raise UsageError(f"MLflow in {home.path} has no study {name!r}. Write it there with: {command}")
        return "/"
    experiment, study = experiments[newest[0].info.experiment_id], newest[0].data.tags[STUDY_TAG]
    study = confirmed_study(study) or study
    return address(experiment.experiment_id, study, has_view=view_tag(study) in experiment.tags)
