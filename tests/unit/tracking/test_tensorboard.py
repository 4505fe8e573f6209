"""A study as event files, read back as TensorBoard reads them."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hpo.errors import UsageError
from hpo.home import Home
from hpo.ledger.records import StudyRecord
from hpo.tracking import tensorboard
from hpo.tracking.tensorboard import EventFiles, event_folder, stored
from tests.browser.simulation import simulated_study

pytest.importorskip("tensorboardX")


@pytest.fixture(scope="module")
def study() -> StudyRecord:
    return simulated_study("drawn", trials=8, epochs=8)


def write(study: StudyRecord, home: Home) -> Path:
    """Write all of a study, as a driver does that begins or continues it."""
    assert EventFiles(study, home).close() is None
    return event_folder(home, study.name)


def half(study: StudyRecord) -> StudyRecord:
    """The study while its trials run: each has half of its epochs."""
    trials = tuple(
        dataclasses.replace(trial, epochs=trial.epochs[: len(trial.epochs) // 2], outcome=None, finished=None)
        for trial in study.trials
    )
    return dataclasses.replace(study, trials=trials)


def scalars(folder: Path, run: str, tag: str) -> list[tuple[int, float, float]]:
    """Step, value and time of each point of a curve, as TensorBoard reads them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder / run), size_guidance={"scalars": 0})
    read.Reload()
    if tag not in read.Tags()["scalars"]:
        return []
    return [(point.step, point.value, point.wall_time) for point in read.Scalars(tag)]


def assert_complete(folder: Path, study: StudyRecord) -> None:
    """Every epoch of every trial is there once."""
    for trial in study.trials:
        found = scalars(folder, f"trial-{trial.number:05d}", "val_accuracy")
        assert [step for step, _, _ in found] == [one.metrics.epoch for one in trial.epochs]
        assert [value for _, value, _ in found] == pytest.approx([one.metrics.val_accuracy for one in trial.epochs])
        assert [time for _, _, time in found] == pytest.approx([one.recorded for one in trial.epochs])


def test_every_epoch_of_every_trial_is_a_step_of_a_curve(tmp_path: Path, study: StudyRecord) -> None:
    assert_complete(write(study, Home.at(tmp_path)), study)


def test_a_study_that_continues_appends_and_repeats_nothing(tmp_path: Path, study: StudyRecord) -> None:
    home = Home.at(tmp_path)
    write(half(study), home)
    folder = write(study, home)
    assert_complete(folder, study)
    files = {path: path.stat().st_size for path in folder.rglob("events.*")}
    write(study, home)
    assert {path: path.stat().st_size for path in folder.rglob("events.*")} == files


def test_a_record_that_a_dead_driver_cut_off_is_written_again(tmp_path: Path, study: StudyRecord) -> None:
    home = Home.at(tmp_path)
    folder = write(half(study), home)
    for path in folder.glob("trial-*/events.*"):
        path.write_bytes(path.read_bytes()[:-5])
    write(study, home)
    for trial in study.trials:
        begun, epochs, ended = stored(folder / f"trial-{trial.number:05d}")
        assert (begun, epochs, ended) == (True, len(trial.epochs), True)
    assert_complete(folder, study)


def test_the_settings_of_a_trial_and_its_end_are_there_for_parallel_coordinates(
    tmp_path: Path, study: StudyRecord
) -> None:
    folder = write(study, Home.at(tmp_path))
    for trial in study.trials:
        told = plugin(folder / f"trial-{trial.number:05d}")
        (begin,) = [data.session_start_info for data in told if data.HasField("session_start_info")]
        (end,) = [data.session_end_info for data in told if data.HasField("session_end_info")]
        searched = {name: value for name, value in trial.values.items() if value is not None}
        assert set(begin.hparams) == set(searched)
        assert begin.hparams["train.lr"].number_value == pytest.approx(searched["train.lr"])
        assert begin.hparams["train.optimizer"].string_value == searched["train.optimizer"]
        assert end.status == (2 if trial.status == "failed" else 1)
    (described,) = [data.experiment for data in plugin(folder)]
    assert {one.name for one in described.hparam_infos} == set(study.spec.space)
    assert [one.name.tag for one in described.metric_infos] == ["val_accuracy"]


def plugin(folder: Path) -> list[Any]:
    """What a run tells TensorBoard's page for hyperparameters."""
    metadata = pytest.importorskip("tensorboard.plugins.hparams.metadata")
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder))
    read.Reload()
    found: Mapping[str, bytes] = read.PluginTagToContent(metadata.PLUGIN_NAME)
    data = pytest.importorskip("tensorboard.plugins.hparams.plugin_data_pb2").HParamsPluginData
    return [data.FromString(content) for content in found.values()]


def test_an_update_writes_nothing_in_the_thread_of_the_driver(tmp_path: Path, study: StudyRecord) -> None:
    files = EventFiles(dataclasses.replace(study, trials=()), Home.at(tmp_path))
    files.close()  # the thread has ended, so what is written now is written by this one
    for trial in study.trials:
        files.update(trial)
    assert list(tmp_path.rglob("events.*")) == []


def test_a_full_disk_is_told_at_the_end_and_ends_nothing(
    tmp_path: Path, study: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorboard, "_open", full)
    said = EventFiles(study, Home.at(tmp_path)).close()
    assert said is not None
    assert "are not complete: [Errno 28] No space left on device" in said


def test_a_missing_package_is_refused_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'hpo-efficientnetv2\[tensorboard\]'"):
        tensorboard.check_tensorboard()
