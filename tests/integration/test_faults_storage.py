"""The ledger's database and the disk: locked, full, restarted; and two drivers on one study."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy.exc
from optuna.storages import RDBStorage

from hpo.databases import owner, same_database
from hpo.driver.conductor import Conductor
from hpo.driver.steering.asking import ask
from hpo.driver.steering.removal import removal
from hpo.errors import InfrastructureError, UsageError
from hpo.home import Home
from hpo.ledger.attributes import HOLDER_KEY
from hpo.ledger.lock import Lease
from hpo.ledger.reader import load_study, study_names
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.tables.claim import Claim
from hpo.ledger.writer import Ledger
from hpo.results.confirmation import confirmation
from hpo.tracking.preflight import check_store, check_tracking
from tests.conftest import synthetic_spec
from tests.support.drivers import Driver, cluster
from tests.support.in_process_driver import create
from tests.support.leases import elsewhere, refuse_every_write
from tests.support.statements import open_at_once, write_little
from tests.unit.driver.test_asking import begin, driven
from trainers.api import EpochMetrics

pytestmark = pytest.mark.ray

LOCKED_S = 10
"""Twice as long as SQLite waits by default."""


def study_of(url: str, name: str) -> StudyRecord:
    """A study as recorded."""
    return load_study(open_storage(url), name)


def assert_whole(study: StudyRecord, trials: int) -> None:
    """Every trial once, each with all its epochs."""
    assert [trial.number for trial in study.trials] == list(range(trials))
    assert {trial.status for trial in study.trials} <= {"complete", "pruned"}
    for trial in study.trials:
        assert [epoch.metrics.epoch for epoch in trial.epochs] == list(range(1, len(trial.epochs) + 1))


def test_a_locked_database_is_waited_for_and_a_second_driver_is_refused(
    home: Home, tmp_path: Path, ray: dict[str, str]
) -> None:
    """Another process holds SQLite's lock for 10 s; meanwhile a second driver is refused; then the first is killed
    and its lock is taken over at once."""
    spec = tmp_path / "spec.yaml"
    settings = {"extra": {"seconds": 0.3, "light": True}, "concurrency": 2, "tracking": {"enabled": False}}
    spec.write_text(synthetic_spec("locked", **settings).to_yaml())
    first = Driver.start("run", spec, home=home.path, **ray)
    first.until("val accuracy", count=2)
    other = sqlite3.connect(home.path / "optuna.db", timeout=30, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    before = first.text.count("val accuracy")
    began = time.monotonic()

    second = Driver.start("resume", "locked", home=home.path, **ray)
    assert second.wait() == 2
    assert f"is being run by process {first.pid} on {socket.gethostname()}" in second.text

    time.sleep(max(0.0, LOCKED_S - (time.monotonic() - began)))
    assert first.text.count("val accuracy") <= before + 2, "the lock was not held against the driver"
    other.execute("COMMIT")
    other.close()
    first.until("val accuracy", count=before + 4)
    assert first.process.is_alive()
    first.kill()

    third = Driver.start("resume", "locked", home=home.path, **ray)
    assert third.wait() == 0, third.text
    assert_whole(study_of(home.ledger_url, "locked"), 8)


@pytest.fixture(scope="module")
def ray() -> Iterator[dict[str, str]]:
    """A Ray that all drivers of this file use."""
    with cluster() as environment:
        yield environment


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_study_on_a_full_disk_stops_and_can_be_resumed(
    home: Home, tmp_path: Path, ray: dict[str, str], small_disk: Path
) -> None:
    """First no checkpoint can be written, then no record; each time the study stops resumable, nothing is corrupt."""
    ledger = f"sqlite:///{small_disk / 'ledger.db'}"
    spec = synthetic_spec(
        "full",
        extra={"seconds": 0.3, "megabytes": 3},
        storage={"ledger": ledger, "checkpoints": str(small_disk / "checkpoints")},
        tracking={"enabled": False},
        asha={"enabled": False},
        budget={"trials": 2},
        concurrency=2,
    )
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    first = Driver.start("run", tmp_path / "spec.yaml", home=home.path, **ray)
    assert first.wait() == 4, first.text  # two checkpoints of each of two trials are 12 MB, the third is too much
    assert "No space left on device" in first.text
    assert first.text.strip().splitlines()[-1] == "Continue with: hpo resume full"
    assert "Traceback" not in first.text
    assert {trial.status for trial in study_of(ledger, "full").trials} == {"interrupted"}

    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
    second = Driver.start("resume", "full", home=home.path, **ray)
    second.until("val accuracy", count=2)
    fill(small_disk / "filler")
    assert second.wait() == 4, second.text
    assert second.text.strip().splitlines()[-1] == "Continue with: hpo resume full"
    assert "Traceback" not in second.text

    (small_disk / "filler").unlink()
    third = Driver.start("resume", "full", home=home.path, **ray)
    assert third.wait() == 0, third.text
    assert_whole(study_of(ledger, "full"), 2)
    assert sqlite3.connect(small_disk / "ledger.db").execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_disk_that_is_full_from_the_start_leaves_nothing_behind(tmp_path: Path, small_disk: Path) -> None:
    """One clear error, exit 4, and nothing recorded."""
    (tmp_path / "spec.yaml").write_text(synthetic_spec("late", extra={"light": True}).to_yaml())
    (small_disk / "home").mkdir()
    (tmp_path / "full").symlink_to(small_disk / "home")  # what it prints goes beside, to another disk
    fill(small_disk / "filler")
    driver = Driver.start("run", tmp_path / "spec.yaml", home=tmp_path / "full")
    assert driver.wait() == 4, driver.text
    assert "No space left on device" in driver.text
    assert "Traceback" not in driver.text
    assert driver.text.strip().splitlines()[-1] == "Nothing is recorded yet: run the same command again"


def fill(path: Path) -> None:
    """A file as large as its disk allows."""
    with path.open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(2**16)):
                pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


# ------------------------------------------------------------------------------------------- PostgreSQL


class Postgres:
    """A database server of the test's own."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._programs = programs
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.password = "s3cret-postgres"
        (folder / "password").write_text(self.password)
        self._run(
            "initdb", "-D", folder / "data", "-U", "hpo", f"--pwfile={folder / 'password'}", "-A", "scram-sha-256"
        )

    @property
    def url(self) -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg://hpo:{self.password}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Serve until `stop`."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        self._run("pg_ctl", "-D", self.folder / "data", "-o", options, "-l", self.folder / "log", "-w", "start")

    def stop(self) -> None:
        """Cut all connections off, in the middle of whatever they do."""
        self._run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "-w", "stop")

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._programs / program), *map(str, arguments)]
        if os.geteuid() == 0:  # it refuses to run as root
            command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A running server."""
    import pwd
    import tempfile

    pytest.importorskip("psycopg", reason="psycopg, the PostgreSQL driver, is not installed")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not programs:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    if os.geteuid() == 0:
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
    server = Postgres(folder, programs[-1])
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


def test_mlflow_and_the_ledger_never_share_a_database_of_a_server(home: Home, postgres: Postgres) -> None:
    """However its address is written; one schema of it each is enough to separate them."""
    ledger, driver = postgres.url, f"postgresql+psycopg://hpo:{postgres.password}@"
    port = f":{postgres.port}"
    for place in (f"localhost{port}/postgres", f"127.0.0.1{port}/postgres?connect_timeout=5"):
        spec = synthetic_spec(storage={"ledger": ledger}, tracking={"uri": f"{driver}{place}"})
        with pytest.raises(UsageError, match="one database") as refused:
            check_tracking(spec, home)
        assert postgres.password not in str(refused.value)
    assert same_database(ledger, f"{driver}/postgres?host={postgres.folder}&port={postgres.port}")
    assert not same_database(ledger, f"{driver}127.0.0.1{port}/postgres?options=-csearch_path%3Dpg_catalog")
    assert owner(ledger) is None, "asking creates nothing"
    open_storage(ledger)
    with pytest.raises(UsageError, match="holds the tables of Optuna"):
        check_store(f"{driver}localhost{port}/postgres?connect_timeout=5")


def test_on_postgresql_too_a_study_is_steered_and_removed(home: Home, postgres: Postgres, tmp_path: Path) -> None:
    with driven(begin(home, postgres.url), tmp_path) as conductor:
        added = ask(home, "asked", "add", values={"extra.quality": 0.875})
        assert added.answer is not None
        assert conductor.ledger.trial(added.answer.trial or 0).values == {"extra.quality": 0.875}
        assert ask(home, "asked", "set", overrides=("budget.trials=9",)).to_json()["state"] == "done"
        assert ask(home, "asked", "stop_trial", trial=0).to_json()["state"] == "done"
    storage = open_storage(postgres.url)
    study = load_study(storage, "asked")
    assert study.spec.budget.trials == 9
    assert study.trials[0].status == "stopped"
    assert [request.answer is not None for request in study.requests] == [True] * 3
    with removal("asked", home, keep_mlflow=True) as remains:
        remains.remove()
    assert list(study_names(open_storage(postgres.url))) == []


def test_on_postgresql_too_a_driver_that_lost_its_study_writes_nothing(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can take the study over between the check and the end of a driver's transaction."""
    refuse_every_write(lambda: open_storage(postgres.url))

    ledger = Ledger.create(open_storage(postgres.url), synthetic_spec("guarded"), {}, lease=elsewhere())
    other = open_storage(f"{postgres.url}?options=-c%20lock_timeout%3D100")
    claim = Claim(other, other.get_study_id_from_name("guarded"), HOLDER_KEY)
    refusals: list[str] = []

    def check(lease: Lease, name: str, holder: Mapping[str, Any] | None) -> None:
        try:
            claim.replace(holder, {"token": "another"})
        except sqlalchemy.exc.OperationalError as error:
            refusals.append(str(error))

    with monkeypatch.context() as patched:
        patched.setattr(Lease, "check", check)
        ledger.end("budget.hours: …")
    (refusal,) = refusals
    assert "lock timeout" in refusal
    assert claim.replace(claim.read(), {"token": "another", "pid": 1, "host": "other"}), "after the transaction"
    with pytest.raises(InfrastructureError, match="process 1 on other took over the study 'guarded'"):
        ledger.end(None)


def test_on_postgresql_too_a_call_of_the_driver_writes_in_one_transaction_of_few_statements(
    postgres: Postgres,
) -> None:
    def opened() -> RDBStorage:
        return open_storage(postgres.url)

    write_little(opened())
    assert open_at_once(opened, 2) == open_at_once(opened, 20) <= 60


def test_a_connection_that_died_between_two_calls_is_replaced(postgres: Postgres) -> None:
    """A report is written again. What is only read is not asked of a dead connection, because it is not repeated."""
    storage, spec = open_storage(postgres.url), synthetic_spec("cut", asha={"enabled": False}, enqueue=[])
    conductor = Conductor(create(storage, spec))
    assignment = conductor.next_trial()
    assert assignment is not None
    administrator = sqlalchemy.create_engine(postgres.url, isolation_level="AUTOCOMMIT")
    cut = sqlalchemy.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    with administrator.connect() as connection:
        for epoch in range(1, 4):
            assert connection.execute(cut).all()
            assert conductor.on_epoch(assignment.number, EpochMetrics(epoch=epoch, val_accuracy=0.5))
            connection.execute(cut)
            assert len(load_study(storage, "cut").trials[0].epochs) == epoch
    assert conductor.fatal is None
    conductor.close()


def test_a_study_survives_restarts_of_postgresql(
    home: Home, tmp_path: Path, ray: dict[str, str], postgres: Postgres
) -> None:
    """Twice in one study, once for seconds, and in its confirmation: no trial is lost, and the driver does not even
    stop. Its password is nowhere but in the ledger and the owner's note of where that is."""
    spec = synthetic_spec(
        "served",
        extra={"seconds": 0.3, "light": True, "noise": 0.01},
        storage={"ledger": postgres.url},
        concurrency=2,
    )
    (tmp_path / "spec.yaml").write_text(spec.to_yaml())
    driver = Driver.start("run", tmp_path / "spec.yaml", home=home.path, **ray)
    driver.until("val accuracy", count=3)
    postgres.stop()
    postgres.start()
    driver.until("val accuracy", count=8)
    postgres.stop()
    restart = threading.Timer(3, postgres.start)
    restart.start()
    assert driver.wait() == 0, driver.text
    restart.join()
    assert_whole(study_of(postgres.url, "served"), 8)

    again = Driver.start("confirm", "served", "--top", 1, "--seeds", 2, home=home.path, **ray)
    again.until("val accuracy", count=3)
    postgres.stop()
    postgres.start()
    assert again.wait() == 0, again.text
    assert "Confirmed: trial" in again.text
    study = study_of(postgres.url, "served")
    assert_whole(study, 8)
    assert {trial.status for trial in study.repeats} == {"complete"}
    assert len(study.repeats) == confirmation(study).planned
    exported = Driver.start("export", "served", "-o", "-", home=home.path)
    assert exported.wait() == 0
    assert "fidelity: confirmed" in exported.text

    status = Driver.start("status", "served", "--json", home=home.path, **ray)
    assert status.wait() == 0
    refused = Driver.start("run", tmp_path / "spec.yaml", home=home.path, **ray)
    assert refused.wait() == 2
    note = home.study("served") / "ledger.url"
    assert note.stat().st_mode & 0o777 == 0o600
    for one in (driver, again, exported, status, refused):
        assert postgres.password not in one.text
    for path in home.path.rglob("*"):
        if path.is_file() and path != note:
            assert postgres.password.encode() not in path.read_bytes(), path
