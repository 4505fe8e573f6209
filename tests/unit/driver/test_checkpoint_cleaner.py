"""Which checkpoints an ended trial keeps, with how many calls to the store, and without making the study wait."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fsspec
import pytest
import torch

from hpo.driver.events import Event
from hpo.driver.listeners import CheckpointCleaner
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import TrialRecord
from trainers.checkpoint import DirectoryStore

ENDINGS = [Ending.COMPLETE, Ending.PRUNED, Ending.FAILED, Ending.INTERRUPTED]
CALLS = ("ls", "find", "rm", "rm_file", "exists", "isdir", "info")


@pytest.fixture
def folder(tmp_path: Path) -> str:
    return f"memory:/{tmp_path}/checkpoints"


@pytest.fixture
def trials(folder: str) -> list[TrialRecord]:
    """One trial of each ending, and one that runs, with two checkpoints each."""
    outcomes = [Outcome(ending, "because") for ending in ENDINGS] + [None]
    for number in range(len(outcomes)):
        for epoch in (1, 2):
            DirectoryStore(f"{folder}/{number:05d}").save(epoch, {"a": torch.ones(1)}, {})
    return [TrialRecord(number=number, values={}, outcome=outcome) for number, outcome in enumerate(outcomes)]


@pytest.fixture
def calls(trials: list[TrialRecord]) -> Iterator[list[str]]:
    """The calls that reach the store, outermost ones only: the others cost an object store nothing."""
    made: list[str] = []
    inside = threading.local()
    memory: Any = type(fsspec.filesystem("memory"))

    def counted(name: str) -> Any:
        original = getattr(memory, name)

        def call(*arguments: Any, **options: Any) -> Any:
            if getattr(inside, "depth", 0) == 0:
                made.append(name)
            inside.depth = getattr(inside, "depth", 0) + 1
            try:
                return original(*arguments, **options)
            finally:
                inside.depth -= 1

        return call

    with patch.multiple(memory, **{name: counted(name) for name in CALLS}):
        yield made


def epochs(folder: str, trials: list[TrialRecord]) -> list[list[int]]:
    return [DirectoryStore(f"{folder}/{trial.number:05d}").epochs() for trial in trials]


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("complete", [[2], [], [], [1, 2], [1, 2]]),
        ("all", [[2], [2], [2], [1, 2], [1, 2]]),
        ("unfinished", [[], [], [], [1, 2], [1, 2]]),
    ],
)
@pytest.mark.parametrize("when", ["as it ends", "by the next driver"])
def test_what_resume_can_use_always_stays(
    keep: Any, kept: list[list[int]], when: str, folder: str, trials: list[TrialRecord]
) -> None:
    cleaner = CheckpointCleaner(folder, keep)
    if when == "as it ends":
        for trial in trials:
            cleaner(Event("finished", trial))
    else:
        cleaner.catch_up(trials)
    assert cleaner.close(at_once=False) is None
    assert epochs(folder, trials) == kept


def test_an_ended_trial_costs_one_listing_and_one_removal(
    folder: str, trials: list[TrialRecord], calls: list[str]
) -> None:
    for trial in trials[:2]:
        calls.clear()
        cleaner = CheckpointCleaner(folder, "complete")
        cleaner(Event("finished", trial))
        cleaner.close(at_once=False)
        assert calls == ["ls", "rm"]


def test_a_start_lists_once_and_deletes_what_a_dead_driver_left(
    folder: str, trials: list[TrialRecord], calls: list[str]
) -> None:
    for expected in (["find", *["ls", "rm"] * 3], ["find"]):
        calls.clear()
        cleaner = CheckpointCleaner(folder, "complete")
        cleaner.catch_up(trials)
        cleaner.close(at_once=False)
        assert calls == expected


def dated(trials: list[TrialRecord]) -> list[TrialRecord]:
    """The trials, each of which ended 100 s after the one before it."""
    return [dataclasses.replace(trial, finished=100.0 * (trial.number + 1)) for trial in trials]


def test_a_start_lists_no_folder_of_a_trial_that_was_cleaned_up(
    folder: str, trials: list[TrialRecord], calls: list[str]
) -> None:
    """Of three trials that ended, the driver cleaned up after one, recorded that, cleaned up after another and died."""
    first, second, third = dated(trials)[:3]
    noted: list[float] = []
    cleaner = CheckpointCleaner(folder, "complete", noted.append)
    for trial in (first, second):
        cleaner(Event("finished", trial))
    cleaner.close(at_once=False)
    calls.clear()
    later = CheckpointCleaner(folder, "complete", noted.append)
    later.catch_up([first, second, third], until=100.0)
    assert later.close(at_once=False) is None
    assert calls == ["ls", "ls", "rm"], "the first trial is not looked at; of the second nothing is left"
    later.note()
    assert noted[-1] == 300.0
    calls.clear()
    last = CheckpointCleaner(folder, "complete", noted.append)
    last.catch_up([first, second, third], until=noted[-1])
    last.close(at_once=False)
    assert calls == []


def test_how_far_the_cleaning_has_come_is_recorded_now_and_then(folder: str, trials: list[TrialRecord]) -> None:
    """Not for each trial, since the ledger is written to; and never beyond a trial that could not be cleaned up."""
    noted: list[float] = []
    cleaner = CheckpointCleaner(folder, "complete", noted.append)
    cleaner._thread = SameThread()  # type: ignore[assignment]
    pruned = dataclasses.replace(trials[1], finished=1000.0)
    for second in range(100):
        cleaner(Event("finished", dataclasses.replace(pruned, finished=1000.0 + second)))
    assert noted == [1000.0, 1031.0, 1062.0, 1093.0]
    with patch.object(DirectoryStore, "drop", side_effect=PermissionError("access denied")):
        cleaner(Event("finished", dataclasses.replace(pruned, finished=1200.0)))
    cleaner(Event("finished", dataclasses.replace(pruned, finished=1300.0)))
    cleaner.note()
    assert noted[-1] == 1099.0
    again = CheckpointCleaner(folder, "complete", noted.append)
    again.catch_up([dataclasses.replace(pruned, finished=1099.0)], until=1099.0)
    again.close(at_once=False)
    again.note()
    assert noted[-1] == 1099.0
    assert len(noted) == 5


class SameThread:
    """Does each job at once."""

    def submit(self, job: Any, *arguments: Any) -> None:
        """Do it."""
        job(*arguments)


def test_the_first_listing_of_a_study_of_an_earlier_version_is_the_last(
    folder: str, trials: list[TrialRecord], calls: list[str]
) -> None:
    noted: list[float] = []
    for expected in (["find", *["ls", "rm"] * 3], []):
        calls.clear()
        cleaner = CheckpointCleaner(folder, "complete", noted.append)
        cleaner.catch_up(dated(trials), *noted)
        cleaner.close(at_once=False)
        cleaner.note()
        assert calls == expected
    assert noted == [300.0]


def test_a_study_without_ended_trials_asks_the_store_nothing(
    folder: str, trials: list[TrialRecord], calls: list[str]
) -> None:
    cleaner = CheckpointCleaner(folder, "complete")
    cleaner.catch_up(trials[3:])
    cleaner.close(at_once=False)
    assert calls == []


def test_the_study_does_not_wait_for_the_store(folder: str, trials: list[TrialRecord]) -> None:
    """The caller holds the conductor's lock; the deletion waits here for the caller to go on."""
    returned, who = threading.Event(), []

    def slow(self: DirectoryStore, *, keep_last: bool) -> None:
        assert returned.wait(10)
        who.append(threading.current_thread())

    with patch.object(DirectoryStore, "drop", slow):
        cleaner = CheckpointCleaner(folder, "complete")
        cleaner(Event("finished", trials[1]))
        returned.set()
        assert cleaner.close(at_once=False) is None
    assert len(who) == 1
    assert threading.current_thread() not in who


def test_a_store_that_refuses_stops_no_study_and_is_told_at_the_end(folder: str, trials: list[TrialRecord]) -> None:
    with patch.object(DirectoryStore, "drop", side_effect=PermissionError("access denied")) as drop:
        cleaner = CheckpointCleaner(folder, "complete")
        for trial in trials:
            cleaner(Event("finished", trial))
        text = cleaner.close(at_once=False)
    assert drop.call_count == 3
    assert text is not None
    assert "access denied" in text
    assert "hpo resume" in text


def test_an_interrupted_driver_leaves_the_rest_to_the_next(folder: str, trials: list[TrialRecord]) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(self: DirectoryStore, *, keep_last: bool) -> None:
        begun.set()
        assert go_on.wait(10)

    with patch.object(DirectoryStore, "drop", autospec=True, side_effect=slow) as drop:
        cleaner = CheckpointCleaner(folder, "complete")
        for trial in trials[:3]:
            cleaner(Event("finished", trial))
        assert begun.wait(10)
        threading.Timer(0.05, go_on.set).start()
        cleaner.close(at_once=True)
    assert drop.call_count == 1


def test_what_a_dead_driver_left_is_found_however_many_files_a_checkpoint_has(tmp_path: Path) -> None:
    """A store of one file per checkpoint: two checkpoints are fewer files than one of the shipped trainer."""
    folder = tmp_path / "00000"
    folder.mkdir()
    for epoch in (3, 4):
        (folder / f"{epoch:06}.json").write_text("{}")
    cleaner = CheckpointCleaner(str(tmp_path), "complete")
    cleaner.catch_up([TrialRecord(number=0, values={}, outcome=Outcome(Ending.COMPLETE, "because"))])
    assert cleaner.close(at_once=False) is None
    assert [path.name for path in folder.iterdir()] == ["000004.json"]
