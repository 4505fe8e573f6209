"""GPU-hours: what a study is charged for. The budget, `hpo status`, the report and MLflow all ask here.

Charged is the time that a worker holds a GPU for a trial, start-up included, times the share of a GPU that the trial
gets. Every attempt counts, also one whose worker died. A trial that is still running counts until now.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import TypeAlias

from hpo.ledger.records import Attempt, StudyRecord, TrialRecord
from hpo.ledger.tables.recovery import last_sign_of_life
from hpo.results.sums.exact import UNIT, exact
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
    last = max(attempt.started, epochs[-1].recorded) if epochs else attempt.started  # one driver's clock stamped them
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
        if _on_gpu(device)
    ]
    return [seconds / 3600 for seconds in _charged(held, moments)]


def _charged(held: Sequence[tuple[float, float, float]], moments: Sequence[float]) -> list[float]:
    """GPU-seconds until each moment. The moments are visited in order, so an attempt that has ended is added once.

    Args:
        held: (start, end, GPUs) of each attempt, in order of the starts.
    """
    totals: dict[float, float] = {}
    active: list[tuple[float, float, float]] = []
    ended = 0  # exact, so that a longer study says the same of an earlier moment
    waiting = iter([*held, (math.inf, math.inf, 0.0)])
    following = next(waiting)
    for moment in sorted(set(moments)):
        while following[0] < moment:
            start, end, gpus = following
            heapq.heappush(active, (end, start, gpus))
            following = next(waiting)
        while active and active[0][0] <= moment:
            end, start, gpus = heapq.heappop(active)
            ended += exact(gpus * (end - start))
        totals[moment] = math.fsum([ended / UNIT, *(gpus * (moment - start) for _, start, gpus in active)])
    return [totals[moment] for moment in moments]


def _asked(resources: Resources) -> bool:
    """Whether a study asks for GPUs: what is taken for granted until the first worker has named its device."""
    return resources.device == "cuda" or (resources.gpus != "auto" and resources.gpus > 0)


def _devices(attempts: Sequence[Attempt], resources: Resources) -> list[str]:
    """The device of each attempt, given in order of their start.

    A worker names its device with its first report. Until then it is taken for the device of the attempt before it,
    or of the first that is known, because all trials of one driver run on the same kind of device.
    """
    first = "cuda" if _asked(resources) else "cpu"
    device = next((attempt.device for attempt in attempts if attempt.device), first)
    return [device := attempt.device or device for attempt in attempts]


def _gpus(attempt: Attempt, resources: Resources) -> float:
    """GPUs that the attempt held; recorded with it, since a resume may ask for another share."""
    if attempt.gpus is not None:
        return attempt.gpus
    return 1.0 if resources.gpus == "auto" else float(resources.gpus)


Known: TypeAlias = tuple[float, int, int, bool]
"""An attempt whose device is known: its start, its trial, its place among the trial's attempts, and whether the device
is a GPU."""


class Meter:
    """`gpu_hours` of a study while it runs. Taking over a changed trial and reading the meter cost the same however
    many trials have ended before."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._trials: dict[int, TrialRecord] = {}
        self._ended: dict[int, Fraction] = {}
        """By trial: GPU-seconds of its attempts that have ended."""
        self._sum = Fraction(0)
        """Of `_ended`; exact, as in `_charged`, so that no error adds up."""
        self._open: dict[int, tuple[float, float]] = {}
        """By trial: when the attempt that holds a GPU now began, and how many GPUs it holds."""
        self._known: list[Known] = []
        """In the order of their start."""
        self._guessed: set[int] = set()
        """Trials with an attempt whose device is not known."""

    def update(self, trial: TrialRecord) -> None:
        """Take over the newest record of a trial."""
        before = self._trials.get(trial.number)
        self._trials[trial.number] = trial
        old, new = set(_named(before)) if before else set(), set(_named(trial))
        others = self._learn(old - new, new - old)
        for number in {trial.number, *others}:
            self._count(self._trials[number])

    def hours(self, now: float) -> float:
        """GPU-hours until now, seconds since the epoch; nothing is recorded later."""
        held = (gpus * max(0.0, now - started) for started, gpus in self._open.values())
        return math.fsum([float(self._sum), *held]) / 3600

    def _learn(self, removed: Iterable[Known], added: Iterable[Known]) -> set[int]:
        """Take over which devices are known; return the trials whose guess may be another one now."""
        wrong = False
        for attempt in removed:
            self._known.remove(attempt)
            wrong = True
        for attempt in added:
            wrong = wrong or self._guess(attempt[:3]) != attempt[3]
            bisect.insort(self._known, attempt)
        return self._guessed if wrong else set()

    def _guess(self, attempt: tuple[float, int, int]) -> bool:
        """As `_devices`: the device of the attempt before, or of the first that is known."""
        if not self._known:
            return _asked(self._resources)
        return self._known[max(0, bisect.bisect(self._known, (*attempt, True)) - 1)][3]

    def _count(self, trial: TrialRecord) -> None:
        number = trial.number
        self._sum -= self._ended.pop(number, 0)
        self._open.pop(number, None)
        self._guessed.discard(number)
        seconds, last = Fraction(0), len(trial.attempts) - 1
        for place, (attempt, end) in enumerate(zip(trial.attempts, released(trial, 0.0), strict=True)):
            if attempt.device is None:
                self._guessed.add(number)
            if not (_on_gpu(attempt.device) if attempt.device else self._guess((attempt.started, number, place))):
                continue
            if place == last and attempt.ended is None and trial.outcome is None and trial.finished is None:
                self._open[number] = (attempt.started, _gpus(attempt, self._resources))
            else:
                seconds += Fraction(_gpus(attempt, self._resources) * (end - attempt.started))
        if seconds:
            self._ended[number] = seconds
            self._sum += seconds


def _on_gpu(device: str) -> bool:
    return device.startswith("cuda")


def _named(trial: TrialRecord) -> Iterator[Known]:
    """The attempts whose device is known, as `Meter` keeps them."""
    for place, attempt in enumerate(trial.attempts):
        if attempt.device:
            yield attempt.started, trial.number, place, _on_gpu(attempt.device)
