"""A study as event files for TensorBoard: a folder for each trial, with its curves and its searched settings.

The driver leaves the newest record of a trial here and continues; a thread writes it within a second. An epoch is one
record of a file, so a driver that dies leaves whole epochs and at most one record that TensorBoard leaves out. What the
files hold is read back where a study continues, so that no epoch is written twice. `tensorboardX` writes them: Ray Tune
needs it anyway, and unlike the writers of torch and of tensorboard it loads nothing heavy in the driver.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import struct
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.clock import Clock
from hpo.errors import UsageError
from hpo.home import Home, confirmed_study
from hpo.ledger.outcome import Ending
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.spec.objectives import objectives
from hpo.spec.study import Spec
from hpo.text import first_line
from hpo.tracking.runs import numbers, run_name
from trainers.api import EpochMetrics

if TYPE_CHECKING:
    from tensorboardX.record_writer import RecordWriter

INTERVAL_S = 1.0
CLOSE_LIMIT_S = 60.0
"""Longest wait for the thread at the end of a study, in seconds."""
PLUGIN = "hparams"
START, END = "_hparams_/session_start_info", "_hparams_/session_end_info"
"""The records with the settings of a trial, and with its end."""
RESULTS = ("val_accuracy", "val_accuracy_raw", "val_accuracy_ema", "val_loss", "train_loss")
"""What an epoch is judged by. TensorBoard sorts its charts by name, so the other fields are in a group behind it."""
_WORK = frozenset(field.name for field in dataclasses.fields(EpochMetrics)) - set(RESULTS)
_FRAME = struct.Struct("<QI")
_CHECKSUM_BYTES = 4


def check_tensorboard() -> None:
    """Raises UsageError if event files cannot be written."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise UsageError(
            "tracking.tensorboard needs the package tensorboardX, which is not installed; type: pip install "
            "'hpo-efficientnetv2[tensorboard]', or set tracking.tensorboard=false"
        )


def event_folder(home: Home, study: str) -> Path:
    """The folder with the event files of a study and of its confirmation."""
    return home.study(confirmed_study(study) or study) / "tensorboard"


class EventFiles:
    """Keeps the event files of a study up to date; repeating an update changes nothing."""

    def __init__(self, study: StudyRecord, home: Home, clock: Clock | None = None) -> None:
        """Begin to write what the files lack."""
        self._folder, self._spec, self._clock = event_folder(home, study.name), study.spec, clock or Clock()
        self._lock = threading.Lock()
        """Guards the newest records."""
        self._newest: dict[int, TrialRecord] = {trial.number: trial for trial in study.trials if trial.started}
        self._runs: dict[int, _Run] = {}
        self._closing = threading.Event()
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._work, name="tensorboard", daemon=True)
        self._thread.start()

    def update(self, trial: TrialRecord) -> None:
        """Leave a trial's newest record; returns at once."""
        if trial.started:
            with self._lock:
                self._newest[trial.number] = trial

    def close(self) -> str | None:
        """Write the rest; returns what a person must know if something could not be written."""
        self._closing.set()
        self._thread.join(CLOSE_LIMIT_S)
        if self._thread.is_alive():
            self._trouble = self._trouble or f"writing took longer than {CLOSE_LIMIT_S:.0f} s"
        if self._trouble is None:
            return None
        return f"warning: event files in {self._folder} are not complete: {self._trouble}; the ledger has everything"

    def _work(self) -> None:
        while True:
            last = self._closing.wait(INTERVAL_S)
            with self._lock:
                newest, self._newest = self._newest, {}
            for trial in newest.values():
                self._write(trial)
            if last:
                return

    def _write(self, trial: TrialRecord) -> None:
        try:
            self._describe()
            run = self._runs.get(trial.number) or _Run(self._folder / run_name(trial), self._spec, self._clock)
            self._runs[trial.number] = run
            run.write(trial)
        except Exception as error:  # noqa: BLE001 - told at the end; it must never end training
            self._trouble = first_line(error) or type(error).__name__
            self._runs.pop(trial.number, None)  # its last record may be cut off: what follows begins another file
        if _final(trial):
            self._runs.pop(trial.number, None)

    def _describe(self) -> None:
        """Tell TensorBoard once which settings are searched, and by which values trials are compared."""
        if not self._runs and not _files(self._folder):
            described, _, _ = _settings(self._spec, self._spec.baseline_values())
            writer = _open(self._folder, self._clock)
            writer.write(_event(self._clock.now(), 0, described))
            writer.close()


class _Run:
    """The event files of one trial."""

    def __init__(self, folder: Path, spec: Spec, clock: Clock) -> None:
        self._folder, self._spec, self._clock = folder, spec, clock
        self._begun, self._epochs, self._ended = stored(folder)
        self._writer: RecordWriter | None = None

    def write(self, trial: TrialRecord) -> None:
        """Add what the files lack."""
        records = list(self._missing(trial))
        if records:
            self._writer = self._writer or _open(self._folder, self._clock)
            for record in records:
                self._writer.write(record)
            self._writer.flush()
        self._begun, self._epochs, self._ended = True, len(trial.epochs), _final(trial)
        if self._ended and self._writer:
            self._writer.close()

    def _missing(self, trial: TrialRecord) -> Iterator[bytes]:
        from tensorboardX.proto.summary_pb2 import Summary

        _, begin, end = _settings(self._spec, trial.assigned, failed=trial.status == Ending.FAILED.value)
        if not self._begun:
            yield _event(trial.attempts[0].started, 0, begin)
        for epoch in trial.epochs[self._epochs :]:
            metrics = numbers(epoch.metrics)
            values = [Summary.Value(tag=tag(name), simple_value=value) for name, value in metrics.items()]
            yield _event(epoch.recorded, epoch.metrics.epoch, Summary(value=values))
        if _final(trial) and not self._ended:
            yield _event(trial.finished or self._clock.now(), len(trial.epochs), end)


def tag(metric: str) -> str:
    """The name of the chart of a metric: `work/seconds`, but `val_loss` and a trainer's own metrics as they are."""
    return f"work/{metric}" if metric in _WORK else metric


def _final(trial: TrialRecord) -> bool:
    return trial.outcome is not None and trial.outcome.final


def _settings(spec: Spec, values: Mapping[str, Any], *, failed: bool = False) -> tuple[Any, Any, Any]:
    """The records of TensorBoard's page for hyperparameters: of the study, of a trial's begin and of its end."""
    from tensorboardX.proto.api_pb2 import Status
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData
    from tensorboardX.summary import hparams

    study, begin, end = hparams(dict(values), {tag(one.field): 0.0 for one in objectives(spec.objectives)})
    if failed:
        told = HParamsPluginData.FromString(end.value[0].metadata.plugin_data.content)
        told.session_end_info.status = Status.Value("STATUS_FAILURE")
        end.value[0].metadata.plugin_data.content = told.SerializeToString()
    return study, begin, end


def _event(at: float, step: int, summary: Any) -> bytes:
    from tensorboardX.proto.event_pb2 import Event

    data: bytes = Event(wall_time=at, step=step, summary=summary).SerializeToString()
    return data


# ------------------------------------------------------------------------------------------------- files


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("events.out.tfevents.*"))


def _open(folder: Path, clock: Clock) -> RecordWriter:
    """A new file, whose name sorts after those that are there, because TensorBoard reads them in this order."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter

    folder.mkdir(parents=True, exist_ok=True)
    last = max((int(path.name.split(".")[3]) for path in _files(folder)), default=0)
    now = clock.now()
    writer = RecordWriter(str(folder / f"events.out.tfevents.{max(int(now), last + 1):010d}.hpo"))
    writer.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
    return writer


def stored(folder: Path) -> tuple[bool, int, bool]:
    """What the files of a trial hold: whether its begin, the number of its epochs, and whether its end."""
    from tensorboardX.proto.event_pb2 import Event

    begun, epochs, ended = False, 0, False
    for path in _files(folder):
        for record in _records(path.read_bytes()):
            event = Event.FromString(record)
            tags = {value.tag for value in event.summary.value}
            begun, ended = begun or START in tags, ended or END in tags
            if tags - {START, END}:
                epochs = event.step
    return begun, epochs, ended


def _records(content: bytes) -> Iterator[bytes]:
    """The whole records of a file, in the framing of TFRecord files: length, checksum, data, checksum."""
    start = 0
    while start + _FRAME.size <= len(content):
        length, _ = _FRAME.unpack_from(content, start)
        end = start + _FRAME.size + length
        if end + _CHECKSUM_BYTES > len(content):
            return
        yield content[start + _FRAME.size : end]
        start = end + _CHECKSUM_BYTES
