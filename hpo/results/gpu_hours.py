"""GPU-hours: what a study is charged for. The budget, `hpo status`, the report and MLflow all ask here.

Charged is the time that a worker holds a GPU for a trial, start-up included, times the share of a GPU that the trial
gets. Every attempt counts, also one whose worker died. A trial that is still running counts until now.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

from hpo.ledger.records import Attempt, StudyRecord, TrialRecord
from hpo.ledger.recovery import last_sign_of_life
from hpo.spec.study import Resources
from hpo.text import duration

DEFINITION = "time that trials hold a GPU, start-up included"


def gpu_hours(study: StudyRecord, now: float | None = None) -> float:
    """GPU-hours of a study's trials; 0 where none ran on a GPU. Its confirmation is not among them.

    Args:
        now: until when to count, seconds since the epoch; None: until the newest record.
    """
    return gpu_hours_until(study, [newest_record(study) if now is None else now])[0]


def gpu_hours_until(study: StudyRecord, moments: Sequence[float]) -> list[float]:
    """The same until each of several moments."""
    return _hours(study.trials, study.spec.resources, moments)


def confirmation_gpu_hours(study: StudyRecord) -> float:
    """GPU-hours of the trainings that confirmed a study's best trials, until the newest record of them."""
    return _hours(study.repeats, study.spec.resources, [last_sign_of_life(study.repeats, ())])[0]


def confirmation_worker_seconds(study: StudyRecord) -> float:
    """Seconds that workers spent on those trainings, start-up included."""
    now = last_sign_of_life(study.repeats, ())
    return sum(
        end - attempt.started
        for trial in study.repeats
        for attempt, end in zip(trial.attempts, released(trial, now), strict=True)
    )


def confirmation_cost(study: StudyRecord) -> str:
    """`0:12:30 of worker time, 0.21 GPU-hours`; empty without a confirmation. No other figure includes it."""
    if not study.repeats:
        return ""
    charged = confirmation_gpu_hours(study)
    worker = f"{duration(confirmation_worker_seconds(study))} of worker time"
    return f"{worker}, {charged:.2f} GPU-hours" if charged else worker


def newest_record(study: StudyRecord) -> float:
    """When anything of a study was last recorded, seconds since the epoch: its trials are known until then."""
    return last_sign_of_life(study.trials, study.sessions)


def released(trial: TrialRecord, now: float) -> list[float]:
    """When the worker of each attempt was free again, or `now` if it still trains; seconds since the epoch."""
    following = itertools.zip_longest(trial.attempts, trial.attempts[1:])
    return [_released(trial, attempt, after, now) for attempt, after in following]


def _released(trial: TrialRecord, attempt: Attempt, following: Attempt | None, now: float) -> float:
    epochs = trial.epochs[attempt.resumed_after : following.resumed_after if following else None]
    last = max([attempt.started, *(epoch.recorded for epoch in epochs)])
    if attempt.ended is not None:
        return max(last, attempt.ended)
    if following is not None:  # recorded before attempts had an end of their own
        return max(last, following.started) if attempt.lost else last
    if trial.finished is not None:
        return max(last, trial.finished)
    return max(last, now) if trial.outcome is None else last


def _hours(trials: Iterable[TrialRecord], resources: Resources, moments: Sequence[float]) -> list[float]:
    now = max(moments, default=0.0)
    attempts = [
        (attempt, end) for trial in trials for attempt, end in zip(trial.attempts, released(trial, now), strict=True)
    ]
    attempts.sort(key=lambda item: item[0].started)
    devices = _devices([attempt for attempt, _ in attempts], resources)
    held = [
        (attempt.started, end, _gpus(attempt, resources))
        for (attempt, end), device in zip(attempts, devices, strict=True)
        if device.startswith("cuda")
    ]
    return [seconds / 3600 for seconds in _charged(held, moments)]


def _charged(held: Sequence[tuple[float, float, float]], moments: Sequence[float]) -> list[float]:
    """GPU-seconds until each moment. The moments are visited in order, so an attempt that has ended is added once.

    Args:
        held: (start, end, GPUs) of each attempt, in order of the starts.
    """
    totals: dict[float, float] = {}
    active: list[tuple[float, float, float]] = []
    ended = Fraction(0)  # exact, so that a longer study says the same of an earlier moment
    waiting = iter([*held, (math.inf, math.inf, 0.0)])
    following = next(waiting)
    for moment in sorted(set(moments)):
        while following[0] < moment:
            start, end, gpus = following
            heapq.heappush(active, (end, start, gpus))
            following = next(waiting)
        while active and active[0][0] <= moment:
            end, start, gpus = heapq.heappop(active)
            ended += Fraction(gpus * (end - start))
        totals[moment] = math.fsum([float(ended), *(gpus * (moment - start) for _, start, gpus in active)])
    return [totals[moment] for moment in moments]


def _devices(attempts: Sequence[Attempt], resources: Resources) -> list[str]:
    """The device of each attempt, given in order of their start.

    A worker names its device with its first report. Until then it is taken for the device of the attempt before it,
    or of the first that is known, because all trials of one driver run on the same kind of device.
    """
    asked = resources.device == "cuda" or (resources.gpus != "auto" and resources.gpus > 0)
    device = next((attempt.device for attempt in attempts if attempt.device), "cuda" if asked else "cpu")
    return [device := attempt.device or device for attempt in attempts]


def _gpus(attempt: Attempt, resources: Resources) -> float:
    """GPUs that the attempt held; recorded with it, since a resume may ask for another share."""
    if attempt.gpus is not None:
        return attempt.gpus
    return 1.0 if resources.gpus == "auto" else float(resources.gpus)
