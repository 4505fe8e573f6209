"""MLflow: not there, gone in the middle, back again; and everything that can differ from the ledger."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from hpo.cli import doctor
from hpo.errors import InfrastructureError
from hpo.home import Home
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.reader import load_study
from hpo.ledger.records import RungDecision
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.tracking.mirror import Mirror
from hpo.tracking.preflight import CONNECT_TIMEOUT_S, check_store
from hpo.tracking.runs import make_store
from hpo.tracking.upkeep.naming import TRIAL_TAG
from tests.conftest import synthetic_spec
from tests.integration.conftest import free_port
from tests.support.drivers import Driver, cluster
from trainers.api import EpochMetrics


@pytest.mark.ray
def test_a_tracking_server_that_is_down_refuses_a_start_but_never_stops_training(
    home: Home, tmp_path: Path, server: tuple[str, int]
) -> None:
    """Without a server nothing starts, and it is said why. One that hangs in the middle does not delay training, and
    the command ends in time; `hpo doctor` then shows and writes what is missing."""
    path = tmp_path / "spec.yaml"
    spec = synthetic_spec("tracked", extra={"seconds": 0.2, "light": True}, concurrency=2)
    path.write_text(spec.to_yaml())
    nobody = f"http://person:s3cret-mlflow@127.0.0.1:{free_port()}"
    down = Driver.start("run", path, f"tracking.uri={nobody}", home=home.path)
    assert down.wait() == 4
    assert CONNECT_TIMEOUT_S < 10
    assert "does not answer" in down.text
    assert "tracking.enabled=false" in down.text
    assert not (home.path / "optuna.db").exists() or not load_names(home)

    uri, pid = server
    with cluster() as ray:
        driver = Driver.start("run", path, f"tracking.uri={uri}", home=home.path, **ray)
        driver.until("val accuracy", count=3)
        os.kill(pid, signal.SIGSTOP)  # worse than gone: connections are taken and never answered
        driver.until("val accuracy", count=8)
        assert driver.wait() == 0, driver.text
    assert "MLflow does not have everything yet" in driver.text
    study = load_study(open_storage(home.ledger_url), "tracked")
    assert len(study.trials) == 8
    assert {trial.status for trial in study.trials} <= {"complete", "pruned"}

    os.kill(pid, signal.SIGCONT)
    shown = findings(home, "tracked")
    assert "differs" in shown
    assert "differences repaired" in shown
    again = findings(home, "tracked")
    assert "differs" not in again
    assert "8 trials of tracked agree with the ledger" in again
    assert "s3cret-mlflow" not in down.text + driver.text + shown + again
    assert b"s3cret-mlflow" not in (tmp_path / "server.db").read_bytes()
    artifacts = [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
    assert artifacts
    for artifact in artifacts:
        assert b"s3cret-mlflow" not in artifact.read_bytes()


def findings(home: Home, name: str) -> str:
    """What `hpo doctor NAME` prints of the study, after its look at the machine."""
    return "\n".join(f"{one.state} {one.subject} {one.text}" for one in doctor.compare(home, name))


def load_names(home: Home) -> list[str]:
    """Studies in the home folder's ledger."""
    from hpo.ledger.reader import study_names

    return list(study_names(open_storage(home.ledger_url)))


@pytest.fixture
def recorded(home: Home) -> Ledger:
    """A ledger with a complete, a pruned, a failed and an interrupted trial, closed."""
    spec = synthetic_spec("compared", train={"epochs": 3, "progressive": {"stages": 1}})
    ledger = Ledger.create(open_storage(home.ledger_url), spec, {"identity": "one", "created": 1.0})
    endings = [
        (3, Outcome(Ending.COMPLETE, "all")),
        (1, Outcome(Ending.PRUNED, "below")),
        (2, Outcome(Ending.FAILED, "because")),
        (1, Outcome(Ending.INTERRUPTED, "stopped")),
    ]
    for number, (epochs, outcome) in enumerate(endings):
        ledger.ask(lambda trial: ({"q": trial.suggest_float("extra.quality", 0, 1)}, "random"), lambda number: number)
        for epoch in range(1, epochs + 1):
            decision = RungDecision(1.0, 0.1 * epoch, None, number, True) if epoch == 1 else None
            ledger.record(number, EpochMetrics(epoch=epoch, val_accuracy=0.1 * epoch, val_loss=1.0), decision)
        ledger.finish(number, outcome)
    ledger.close()
    return ledger


def test_doctor_shows_and_repairs_every_difference(home: Home, recorded: Ledger) -> None:
    """A run is missing, one is there twice, statuses, values and parameters are wrong, an epoch is missing."""
    mirror = Mirror(recorded.study, home)
    for trial in recorded.trials:
        mirror.sync(trial)
        recorded.link_run(trial.number, mirror.runs[trial.number])
    recorded.write_notes()
    mirror.finish(recorded.study)
    assert Mirror(recorded.study, home).differences(recorded.study) == []

    client = MlflowClient(tracking_uri=home.mlflow_url)
    runs = dict(mirror.runs)
    client.delete_run(runs[0])
    client.log_metric(runs[1], "val_accuracy", 0.9, step=7)
    client.set_terminated(runs[2], "FINISHED")
    twin = client.create_run(mirror.store.experiment, tags=client.get_run(runs[3]).data.tags)
    client.set_terminated(mirror.store.parent, "FAILED")

    shown = findings(home, "compared")
    for line in (
        "the study run is FAILED, not SCHEDULED",
        "trial 0 has no run",
        "trial 1 has 1 metric values that the ledger does not have",
        "trial 2 is FINISHED, not FAILED",
        "trial 3 has 2 runs",
        "the description shows another state of the study",  # it links to the run of trial 0
        "6 differences repaired",
    ):
        assert line in shown, shown
    study = load_study(open_storage(home.ledger_url), "compared")
    assert Mirror(study, home).differences(study) == []
    assert client.get_run(twin.info.run_id).info.lifecycle_stage == "deleted"
    assert study.trials[0].mlflow_run_id != runs[0]
    assert study.trials[2].mlflow_run_id == runs[2]
    experiment = client.get_experiment_by_name("compared")
    children = [run for run in client.search_runs([experiment.experiment_id]) if TRIAL_TAG in run.data.tags]
    assert sorted(int(run.data.tags[TRIAL_TAG]) for run in children) == [0, 1, 2, 3]

    assert "differs" not in findings(home, "compared")


def test_a_cut_off_synchronisation_is_finished_without_a_trace(home: Home, recorded: Ledger) -> None:
    """A driver that dies after any call to MLflow leaves nothing that the next one would make twice."""
    client = MlflowClient(tracking_uri=home.mlflow_url)
    for attempt in range(80):
        mirror = Mirror(recorded.study, home)
        mirror.store.client = Cut(mirror.store.client, 1 + attempt // 6)  # type: ignore[assignment]
        try:
            for trial in recorded.trials:
                mirror.sync(trial)
            mirror.finish(recorded.study)
        except ConnectionError:
            continue
        break
    else:
        pytest.fail("never got through")
    assert attempt > 10
    study = recorded.study
    left = Mirror(study, home).differences(study)
    assert left == [f"trial {number} has a run that the ledger does not know" for number in range(4)]
    experiment = client.get_experiment_by_name("compared")
    assert len(client.search_runs([experiment.experiment_id])) == 5


def test_a_driver_killed_while_mlflow_makes_its_database(home: Home) -> None:
    """It is there whole or not at all: MLflow refuses what it did not finish itself."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.driver_preload"])
    for delay in (0.0, 0.4):
        process = context.Process(target=make_store, args=(home,))
        process.start()
        while process.is_alive() and not list(home.cache.glob("mlflow-*/first.db")):
            time.sleep(0.01)
        process.join(delay)
        process.kill()
        process.join()
        check_store(home.mlflow_url)
        if (home.path / "mlflow.db").exists():
            break
        for left in home.cache.glob("mlflow-*"):
            shutil.rmtree(left)
    make_store(home)
    check_store(home.mlflow_url)
    assert MlflowClient(tracking_uri=home.mlflow_url).search_experiments()
    assert list(home.path.glob("mlflow.db*")) == [home.path / "mlflow.db"]


@pytest.mark.parametrize("name", ["../../outside", "/tmp/outside", "a b/../../..", "x" * 200])
def test_an_experiments_name_does_not_lead_out_of_the_home_folder(home: Home, name: str) -> None:
    """MLflow takes any name; its artifacts stay in the home folder."""
    spec = synthetic_spec("named", tracking={"experiment": name})
    ledger = Ledger.create(open_storage(home.ledger_url), spec, {"identity": "one", "created": 1.0})
    Mirror(ledger.study, home).begin()
    experiment = MlflowClient(tracking_uri=home.mlflow_url).get_experiment_by_name(name)
    place = Path(experiment.artifact_location.removeprefix("file://"))
    assert place.resolve().parent == home.artifacts
    assert list(place.rglob("specification.yaml"))


@pytest.mark.parametrize("answers", [False, True])
def test_a_tracking_server_that_never_answers_is_given_up_on(monkeypatch: pytest.MonkeyPatch, answers: bool) -> None:
    """One that takes the connection and then is silent, or says something that is no HTTP."""
    monkeypatch.setattr("hpo.tracking.preflight.CONNECT_TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def say() -> None:
            with silent.accept()[0] as connection:
                connection.sendall(b"220 some other service\r\n")

        if answers:
            threading.Thread(target=say, daemon=True).start()
        with pytest.raises(InfrastructureError, match="does not answer") as refused:
            check_store(f"http://me:s3@cret@127.0.0.1:{silent.getsockname()[1]}")
    assert "tracking.enabled=false" in str(refused.value)
    assert "cret" not in str(refused.value)


class Cut:
    """An MLflow client whose server takes so many writes and then no more: the last one is done, its answer lost."""

    def __init__(self, client: MlflowClient, writes: int) -> None:
        self._client, self._left = client, writes

    def __getattr__(self, name: str) -> object:
        method = getattr(self._client, name)
        if name.startswith(("search", "get")):
            return method

        def write(*arguments: object, **options: object) -> object:
            if self._left <= 0:
                raise ConnectionError("down")
            self._left -= 1
            answer = method(*arguments, **options)
            if self._left == 0:
                raise ConnectionError("the answer is lost")
            return answer

        return write
