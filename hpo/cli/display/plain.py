"""A running study as plain lines on stderr, and the closing text with the next steps."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from hpo.driver.events import Event
from hpo.home import command
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.confirmation_text import certainty
from hpo.results.gpu_hours import confirmation_cost
from hpo.results.pareto import front
from hpo.results.progress import Step, next_steps
from hpo.results.summary import configuration, counts, stopped
from hpo.results.winner import winner
from hpo.spec.objectives import VAL_ACCURACY, Objective
from hpo.text import duration, first_line, short_names
from hpo.tracking.runs import tracking_server


class PlainView:
    """Prints one line per event, and another when a trial becomes the best so far."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._best = -math.inf

    def begin(self, study: StudyRecord) -> None:
        """Start the clock."""
        self._epochs, self._objective = study.spec.train.epochs, study.spec.objective
        self._began = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Print one event."""
        self._line(describe(event, self._epochs, self._objective))
        trial = event.trial
        if event.kind == "finished" and trial and trial.complete and trial.rank > self._best:
            self._best = trial.rank
            self._line(f"best so far: {self._objective.show_score(trial.value)} by {trial.label}")

    def _line(self, text: str) -> None:
        elapsed = int(time.monotonic() - self._began)
        print(f"{elapsed // 60:3d}:{elapsed % 60:02d}  {text}", file=self._stream, flush=True)


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
        if attempt.put_back:
            return f"{trial.label} is put back ({first_line(attempt.lost)})"
        return f"{trial.label} lost its worker ({first_line(attempt.lost)}); it is retried"
    if event.kind == "finished" and trial.outcome is not None:
        return f"{trial.label} {trial.outcome.ending.value}: {first_line(trial.outcome.reason)}"
    begins: str = event.kind
    if event.kind == "resumed":
        begins = f"resumed after epoch {len(trial.epochs)}" if trial.epochs else "started again"
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


def closing(study: StudyRecord, home_option: str) -> str:
    """The closing text of a run: the results and the commands to type next."""
    lines = [f"Study {study.name}: {counts(study)}", f"Wall-clock time: {duration(study.seconds)}"]
    if extra := confirmation_cost(study):
        lines.append(f"The confirmation took {extra} more.")
    lines += _best(study)
    if study.ended:
        lines.append(f"{stopped(study)}.")
    if len(study.spec.objectives) > 1:
        lines.append(f"Pareto front: {len(front(study))} trials. See: {command(f'status {study.name}', home_option)}")
    return "\n".join([*lines, *what_next(study, home_option)])


def _best(study: StudyRecord) -> Iterator[str]:
    best = winner(study)
    if best is None:
        yield "No trial is complete yet."
        return
    trial = f"trial {best.trial.number}"
    if best.confirmation:
        yield f"Confirmed: {trial}, mean {best.objective.label} over new seeds {best.shown}"
    else:
        yield f"Best: {trial}, {best.objective.label} {best.shown}"
    yield from (f"  {path} = {value}" for path, value in configuration(best.trial).items())
    if best.is_baseline:
        yield f"It is the {best.baseline_name}: no other trial is better."
    elif best.gain and best.baseline:
        value = "" if best.confirmation else f", {best.objective.show_score(best.baseline.value)}"
        yield f"Gain over the {best.baseline_name}: {best.gain} (trial {best.baseline.number}{value})"
    if best.confirmation:
        yield f"How sure: {certainty(best.confirmation)}"


def what_next(study: StudyRecord, home_option: str) -> list[str]:
    """The commands to type next, one a line below a title; nothing if there is none."""
    here = study.spec.tracking.enabled and tracking_server(study.spec) is None  # a server has a UI of its own
    ui = [Step.of("browse the trials in MLflow", "ui", home_option)] if here else []
    steps = [*ui, *next_steps(study, home_option)]
    if not steps:
        return []
    width = max(len(step.command) for step in steps)
    return ["Next:", *(f"  {step.command:{width}}   {step.purpose}" for step in steps)]
