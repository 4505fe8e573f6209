"""What a person sees of a running study on stderr: one plain line per event, the same in a pipe and in CI."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from hpo.conductor import Event
from hpo.records import StudyRecord, TrialRecord
from hpo.specification import Spec
from hpo.summary import configuration, counts, percent, short_names


class PlainView:
    """Prints events as they come. The best value so far stands on every line that changes it."""

    def __init__(self, spec: Spec, stream: TextIO | None = None) -> None:
        self._horizon = spec.train.epochs
        self._stream = stream or sys.stderr
        self._best = -1.0
        self._began = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Print one event."""
        if event.trial is None:
            self._line(event.text)
        elif event.kind in ("started", "resumed"):
            again = f" after epoch {len(event.trial.epochs)}" if event.kind == "resumed" else ""
            values = configuration(event.trial)
            settings = " ".join(
                f"{name}={value}" for name, value in zip(short_names(list(values)), values.values(), strict=True)
            )
            self._line(f"trial {event.trial.number} {event.kind}{again}: {settings}")
        elif event.kind == "epoch":
            self._line(self._epoch(event.trial))
        elif event.kind == "lost":
            self._line(f"trial {event.trial.number} lost its worker ({event.trial.attempts[-2].lost}); tried again")
        elif event.kind == "finished" and event.trial.outcome is not None:
            self._finished(event.trial)

    def _epoch(self, trial: TrialRecord) -> str:
        last = trial.last
        assert last is not None  # an epoch event follows an epoch
        speed = f"  {last.images_per_second:,.0f} images/s" if last.images_per_second else ""
        size = f"  {last.image_size} px" if last.image_size else ""
        return (
            f"trial {trial.number} epoch {last.epoch}/{self._horizon}  "
            f"val accuracy {percent(last.val_accuracy)}{size}{speed}"
        )

    def _finished(self, trial: TrialRecord) -> None:
        assert trial.outcome is not None
        reason = trial.outcome.reason.splitlines()[0]
        self._line(f"trial {trial.number} {trial.outcome.ending.value}: {reason}")
        if trial.complete and trial.value is not None and trial.value > self._best:
            self._best = trial.value
            self._line(f"best so far: {percent(trial.value)} by trial {trial.number}")

    def _line(self, text: str) -> None:
        elapsed = int(time.monotonic() - self._began)
        print(f"{elapsed // 60:3d}:{elapsed % 60:02d}  {text}", file=self._stream, flush=True)


def closing(study: StudyRecord, home_option: str) -> str:
    """The last words of a run: what was found and what to type next."""
    lines = [f"Study {study.name}: {counts(study)}, {study.seconds / 60:.1f} minutes."]
    if study.best:
        lines.append(f"Best: trial {study.best.number}, validation accuracy {percent(study.best.value)}")
        lines += [f"  {path} = {value}" for path, value in configuration(study.best).items()]
    baseline = study.baseline
    if study.best and baseline and baseline.complete and baseline.value is not None and study.best.value is not None:
        gain = 100 * (study.best.value - baseline.value)
        lines.append(f"Published recipe (trial {baseline.number}): {percent(baseline.value)}; gain {gain:+.2f} points")
    return "\n".join([*lines, "Next:", *_next_steps(study.name, home_option)])


def _next_steps(name: str, home_option: str) -> list[str]:
    steps = {
        f"hpo ui{home_option}": "browse the trials in MLflow",
        f"hpo export {name}{home_option} -o best.yaml": "write the best configuration",
        "hpo retrain best.yaml": "train it on all training data and test it once",
    }
    width = max(map(len, steps))
    return [f"  {command:{width}}   {purpose}" for command, purpose in steps.items()]
