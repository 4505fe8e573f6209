"""A running study as plain lines: one per event."""

from __future__ import annotations

import math
import sys
import time
from typing import TextIO

from hpo.driver.events import Event
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.summary import configuration
from hpo.spec.objectives import VAL_ACCURACY, Objective
from hpo.text import first_line, short_names


class PlainView:
    """Prints one line per event, and another when a trial becomes the best so far."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._highest = -math.inf

    def begin(self, study: StudyRecord) -> None:
        """Start the clock."""
        self._epochs, self._objective = study.spec.train.epochs, study.spec.objective
        self._began = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Print one event. A change of the study comes with a notice, which says it."""
        if event.kind in ("study", "placed", "let_go"):
            return
        self._line(describe(event, self._epochs, self._objective))
        trial = event.trial
        if event.kind == "finished" and trial and trial.complete and trial.rank > self._highest:
            self._highest = trial.rank
            self._line(f"best so far: {self._objective.show_score(trial.value)} by {trial.label}")

    def _line(self, text: str) -> None:
        elapsed = int(time.monotonic() - self._began)
        self.write(f"{elapsed // 60:3d}:{elapsed % 60:02d}  {text}")

    def write(self, line: str) -> None:
        """Print a line with its time."""
        print(line, file=self._stream, flush=True)


def describe(event: Event, horizon: int, objective: Objective = VAL_ACCURACY) -> str:
    """An event in one line; `horizon` is the full length of a trial in epochs."""
    trial = event.trial
    if trial is None:
        return event.text
    if event.kind == "epoch":
        return _epoch(trial, horizon, objective)
    if event.kind == "lost":
        attempt = next((attempt for attempt in reversed(trial.attempts) if attempt.lost), None)
        if attempt is None:
            return f"{trial.label} failed before its first report; the next trial on its node shows which is at fault"
        if attempt.crowded:
            return f"{trial.label} is tried again alone on a GPU ({first_line(attempt.lost)})"
        if attempt.put_back:
            return f"{trial.label} is put back ({first_line(attempt.lost)})"
        return f"{trial.label} lost its worker ({first_line(attempt.lost)}); it is retried"
    if event.kind == "finished" and trial.outcome is not None:
        return f"{trial.label} {trial.outcome.ending.value}: {first_line(trial.outcome.reason)}"
    begins: str = event.kind
    if event.kind == "resumed":
        resumed = "taken up again" if trial.attempts[-1].taken_up else "resumed"
        begins = f"{resumed} after epoch {len(trial.epochs)}" if trial.epochs else "started again"
    values = configuration(trial)
    named = " ".join(f"{name}={values[path]}" for path, name in short_names(values).items())
    return f"{trial.label} {begins}: {named}"


def _epoch(trial: TrialRecord, horizon: int, objective: Objective) -> str:
    last = trial.last
    assert last is not None  # an epoch event follows an epoch
    speed = f"  {last.images_per_second:,.0f} images/s" if last.images_per_second else ""
    value = f"{'val accuracy' if objective.is_accuracy else objective.label} {objective.show_score(trial.value)}"
    size = f"  {last.image_size} px" if last.image_size else ""
    return f"{trial.label} epoch {last.epoch}/{horizon}  {value}{size}{speed}"
