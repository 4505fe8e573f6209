"""A driver that dies after any write: what it leaves is finished by the next one as if nothing had happened."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections import Counter
from pathlib import Path

import pytest
from optuna.storages import InMemoryStorage

from hpo.driver.conductor import Conductor
from hpo.errors import InfrastructureError, UsageError
from hpo.ledger.reader import load_study
from hpo.search.asha import replay
from hpo.spec.study import Spec
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import Died, create, finish, reopen, steps, told


class Mortal(InMemoryStorage):
    """A database whose client dies right before its n-th write; what was written before stays."""

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None

    def _write(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Died

    def create_new_trial(self, *arguments, **options):
        self._write()
        return super().create_new_trial(*arguments, **options)

    def set_trial_param(self, *arguments, **options):
        self._write()
        return super().set_trial_param(*arguments, **options)

    def set_trial_state_values(self, *arguments, **options):
        self._write()
        return super().set_trial_state_values(*arguments, **options)

    def set_trial_intermediate_value(self, *arguments, **options):
        self._write()
        return super().set_trial_intermediate_value(*arguments, **options)

    def set_trial_user_attr(self, *arguments, **options):
        self._write()
        return super().set_trial_user_attr(*arguments, **options)

    def set_trial_system_attr(self, *arguments, **options):
        self._write()
        return super().set_trial_system_attr(*arguments, **options)

    def set_study_user_attr(self, *arguments, **options):
        self._write()
        return super().set_study_user_attr(*arguments, **options)


def a_spec(**changes: object) -> Spec:
    """Four trials of four epochs; two of them enqueued."""
    settings = {
        "train": {"epochs": 4, "progressive": {"stages": 1}},
        "extra": {"light": True},
        "enqueue": [{"extra.quality": 0.5}, {"extra.quality": 0.4}],
        "budget": {"trials": 4},
    }
    return synthetic_spec("mortal", **(settings | changes))


def test_a_driver_that_dies_before_any_write_is_continued_to_the_same_study(tmp_path: Path) -> None:
    """Every write is the last one once, over the whole life of a study; the resumed one ends with the same trials,
    configurations and seeds, consistent decisions of ASHA, and nothing running."""
    spec = a_spec()
    storage = Mortal()
    finish(create(storage, spec), tmp_path / "undisturbed")
    undisturbed = told(storage, load_study(storage, spec.study))
    writes = 0
    while True:
        storage = Mortal()
        storage.left = writes
        folder = tmp_path / str(writes)
        try:
            finish(create(storage, spec), folder)
            break
        except Died:
            storage.left = None
        try:
            ledger = reopen(storage, spec)
        except UsageError:  # its creation was cut off: said so, and `run` begins it again
            ledger = create(storage, spec)
        assert not {trial.state.name for trial in ledger._study.trials} & {"RUNNING"}, f"after {writes} writes"
        finish(ledger, folder)
        study = load_study(storage, spec.study)
        assert told(storage, study) == undisturbed, f"after {writes} writes"
        assert replay([(one.number, rung) for one in study.trials for rung in one.rungs], 2) == []
        writes += 1
    assert writes > 40


def test_a_driver_that_dies_while_it_resumes_is_continued_too(tmp_path: Path) -> None:
    """The second driver dies too, at any of its first writes."""
    spec = a_spec()
    for writes in range(14):
        storage = Mortal()
        conductor = Conductor(create(storage, spec))
        rounds = steps(conductor, tmp_path / str(writes))
        next(rounds)
        next(rounds)
        rounds.close()
        storage.left = writes
        with pytest.raises(Died):
            finish(reopen(storage, spec), tmp_path / str(writes))
        storage.left = None
        finish(reopen(storage, spec), tmp_path / str(writes))
        study = load_study(storage, spec.study)
        told(storage, study)
        assert len(study.trials) == 4


def test_losses_are_counted_over_all_drivers(tmp_path: Path) -> None:
    """A trial that kills its workers is given up after `retries` more attempts, however often it is resumed."""
    spec = a_spec(retries=2, budget={"trials": 1})
    storage = Mortal()
    ledger = create(storage, spec)
    for loss in range(3):
        conductor = Conductor(ledger)
        assert conductor.next_trial() is not None
        assert not conductor.exhausted
        conductor.on_lost(0, f"killed {loss}")
        conductor.close()
        ledger = reopen(storage, spec)
    trial = load_study(storage, spec.study).trials[0]
    assert trial.outcome is not None
    assert trial.outcome.reason == "lost its worker 3 times; the last time: killed 2"
    assert Counter(attempt.lost for attempt in trial.attempts) == {"killed 0": 1, "killed 1": 1, "killed 2": 1}


def test_a_budget_can_grow_and_waiting_trials_are_kept(tmp_path: Path) -> None:
    """Enqueued configurations that the first budget did not reach come first when it grows."""
    spec = a_spec(budget={"trials": 1})
    storage = Mortal()
    finish(create(storage, spec), tmp_path)
    assert [trial.status for trial in load_study(storage, spec.study).trials] == ["complete", "waiting"]
    larger = a_spec(budget={"trials": 3})
    ledger = reopen(storage, spec)
    ledger.respecify(larger)
    finish(ledger, tmp_path)
    study = load_study(storage, spec.study)
    assert [trial.enqueued for trial in study.trials] == [True, True, False]
    assert study.trials[1].values == {"extra.quality": 0.4}
    assert study.spec.budget.trials == 3


def test_an_error_in_a_sampler_stops_the_study_but_fails_no_trial(tmp_path: Path) -> None:
    """The study stops, its trials wait, and the mistake itself comes out."""
    spec = a_spec()
    storage = Mortal()
    conductor = Conductor(create(storage, spec))
    rounds = steps(conductor, tmp_path)
    next(rounds)

    def broken(*arguments: object) -> dict[str, float]:
        raise ZeroDivisionError("in a sampler")

    conductor.ledger._study.sampler.sample_relative = broken
    for _ in rounds:
        pass
    with pytest.raises(ZeroDivisionError, match="in a sampler"):
        conductor.close()
    statuses = {trial.status for trial in load_study(storage, spec.study).trials if trial.started}
    assert statuses <= {"interrupted", "complete", "pruned"}


def test_a_full_disk_under_a_checkpoint_stops_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no trial's fault: nothing fails, everything waits."""
    spec = a_spec()
    storage = Mortal()
    conductor = Conductor(create(storage, spec))
    rounds = steps(conductor, tmp_path)
    next(rounds)

    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        for _ in rounds:
            pass
    with pytest.raises(InfrastructureError, match="No space left on device"):
        conductor.close()
    statuses = {trial.status for trial in load_study(storage, spec.study).trials if trial.started}
    assert "interrupted" in statuses
    assert "failed" not in statuses


# ------------------------------------------------------------------------------------------ checkpoints


class Hostile:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def seal(folder: Path, epoch: int) -> None:
    """Make the manifest agree with the files, as somebody would who wants them to be read."""
    names = [f"{epoch:06}.safetensors", f"{epoch:06}.pt"]
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / f"{epoch:06}.json").write_text(json.dumps({"format": 1, "epoch": epoch, "sha256": hashes}))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_damaged_checkpoints_are_skipped_and_hostile_ones_are_never_executed(tmp_path: Path) -> None:
    """Four trials are interrupted after epoch 3; of one the newest checkpoint is cut, of one a bit is flipped, of one
    both are bad, and of one both are replaced by pickles that run a command."""
    (tmp_path / "journal").mkdir()
    spec = a_spec(
        train={"epochs": 6, "progressive": {"stages": 1}},
        extra={"journal": str(tmp_path / "journal")},
        asha={"enabled": False},
    )
    storage = InMemoryStorage()
    conductor = Conductor(create(storage, spec))
    for epochs in steps(conductor, tmp_path, slots=4):
        if set(epochs.values()) == {3}:
            conductor.stop("enough")
    conductor.close()

    proof = tmp_path / "executed"
    truncate(tmp_path / "00000" / "000003.safetensors")
    flip(tmp_path / "00001" / "000003.pt")
    truncate(tmp_path / "00002" / "000002.json")
    truncate(tmp_path / "00002" / "000003.pt")
    for epoch in (2, 3):
        (tmp_path / "00003" / f"{epoch:06}.pt").write_bytes(pickle.dumps(Hostile(f"touch {proof}")))
        seal(tmp_path / "00003", epoch)

    notices: list[str] = []
    finish(reopen(storage, spec), tmp_path, lambda event: notices.append(event.text))
    assert not proof.exists(), "a checkpoint was executed"
    study = load_study(storage, spec.study)
    assert [trial.status for trial in study.trials] == ["complete"] * 4
    told(storage, study)
    trained = {}
    for trial in study.trials:
        lines = (tmp_path / "journal" / f"{trial.number:05d}").read_text().splitlines()
        trained[trial.number] = [int(line.split()[0]) for line in lines[3:]]
    assert trained == {0: [3, 4, 5, 6], 1: [3, 4, 5, 6], 2: [1, 2, 3, 4, 5, 6], 3: [1, 2, 3, 4, 5, 6]}
    text = "\n".join(notices)
    for number in (0, 1):
        assert f"warning: trial {number}: checkpoint of epoch 3" in text
        assert f"trial {number}: later checkpoints are lost or damaged; it continues from epoch 2" in text
    for number in (2, 3):
        assert f"trial {number}: later checkpoints are lost or damaged; it continues from epoch 1" in text
