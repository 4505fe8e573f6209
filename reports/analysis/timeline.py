"""How the workers spent their time, from the attempts and epochs that the ledger records."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpo.ledger.records import Attempt, EpochRecord, StudyRecord, TrialRecord
from hpo.results.gpu_hours import newest_record, released

START, TRAIN, EVAL, OTHER, LOST = (
    "start-up",
    "training",
    "evaluation",
    "checkpoints and reporting",
    "lost with a worker",
)
KINDS = (TRAIN, EVAL, START, OTHER, LOST)


@dataclass(frozen=True)
class Segment:
    """A time span of one kind of work; `start` and `end` in seconds since 1970."""

    kind: str
    start: float
    end: float


@dataclass(frozen=True)
class Span:
    """One attempt at a trial on its worker; `start` and `end` in seconds since 1970."""

    trial: int
    status: str
    worker: str
    start: float
    end: float
    segments: tuple[Segment, ...]

    @property
    def seconds(self) -> float:
        """Length of the span."""
        return self.end - self.start


def spans(study: StudyRecord) -> tuple[Span, ...]:
    """All attempts, in order of their start."""
    now, usual = newest_record(study), _usual_epoch(study.trials)
    attempts = [
        _span(trial, attempt, following, end, usual)
        for trial in study.trials
        for attempt, following, end in itertools.zip_longest(trial.attempts, trial.attempts[1:], released(trial, now))
    ]
    return tuple(sorted(attempts, key=lambda span: span.start))


def _usual_epoch(trials: Sequence[TrialRecord]) -> float:
    """Seconds of an epoch of a trainer that does not report them: the median between two reports of one attempt.

    A first report comes after the start-up, so its time says nothing of the epoch. If no attempt reported twice, the
    quickest first report counts, which had the least start-up.
    """
    between: list[float] = []
    first: list[float] = []
    for trial in trials:
        for attempt, following in itertools.zip_longest(trial.attempts, trial.attempts[1:]):
            moments = [epoch.recorded for epoch in _epochs(trial, attempt, following)]
            between += [later - earlier for earlier, later in itertools.pairwise(moments)]
            first += [moment - attempt.started for moment in moments[:1]]
    return statistics.median(between) if between else min(first, default=0.0)


def _epochs(trial: TrialRecord, attempt: Attempt, following: Attempt | None) -> tuple[EpochRecord, ...]:
    return trial.epochs[attempt.resumed_after : following.resumed_after if following else len(trial.epochs)]


def _span(trial: TrialRecord, attempt: Attempt, following: Attempt | None, end: float, usual: float) -> Span:
    epochs = _epochs(trial, attempt, following)
    segments: list[Segment] = []
    cursor = attempt.started
    for epoch in epochs:
        between = OTHER if segments else START
        segments += _segments(epoch, cursor, between, usual if between == START else math.inf)
        cursor = max(cursor, epoch.recorded)
    if end > cursor:
        segments.append(Segment(_tail(trial, attempt, following, bool(epochs)), cursor, end))
    worker = f"{attempt.host} · {attempt.pid}" if attempt.pid is not None else "not placed"
    kept = tuple(segment for segment in segments if segment.end > segment.start)
    return Span(trial.number, trial.status, worker, attempt.started, end, kept)


def _tail(trial: TrialRecord, attempt: Attempt, following: Attempt | None, reported: bool) -> str:
    """What the worker did after the last report of an attempt."""
    if following is not None and attempt.lost:
        return LOST
    if trial.status in ("failed", "running"):
        return TRAIN if reported else START
    return OTHER


def _segments(epoch: EpochRecord, cursor: float, between: str, longest: float) -> list[Segment]:
    """The segments of one epoch; the time from `cursor` to its beginning is of the kind `between`.

    An epoch that does not say how long it took began at `cursor`, or `longest` seconds before its report.
    """
    metrics = epoch.metrics
    evaluation = metrics.eval_seconds or 0.0
    reported = max(metrics.seconds or 0.0, (metrics.train_seconds or 0.0) + evaluation)
    length = reported or min(longest, max(0.0, epoch.recorded - cursor))
    begin = min(max(cursor, epoch.recorded - length), max(cursor, epoch.recorded))
    training = metrics.train_seconds if metrics.train_seconds is not None else max(0.0, length - evaluation)
    middle = min(begin + training, max(begin, epoch.recorded))
    scored = min(middle + evaluation, max(middle, epoch.recorded))
    return [
        Segment(between, cursor, begin),
        Segment(TRAIN, begin, middle),
        Segment(EVAL, middle, scored),
        Segment(OTHER, scored, max(scored, epoch.recorded)),
    ]


class Clock:
    """Study time: it runs only while a driver works on the study, so nights between two sessions do not count."""

    def __init__(self, study: StudyRecord, attempts: Sequence[Span]) -> None:
        self.intervals = _merged([*study.sessions, *((span.start, span.end) for span in attempts)])

    @property
    def total(self) -> float:
        """Seconds in all."""
        return sum(end - start for start, end in self.intervals)

    @property
    def breaks(self) -> list[float]:
        """Study time at which each later session begins, seconds."""
        return [self.position(start) for start, _ in self.intervals[1:]]

    def position(self, moment: float) -> float:
        """Study time at `moment`, seconds."""
        return sum(max(0.0, min(end, moment) - start) for start, end in self.intervals if start < moment)


def _merged(intervals: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    merged: list[tuple[float, float]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


@dataclass(frozen=True)
class Time:
    """Worker seconds of a study by kind of work."""

    by_kind: dict[str, float]
    idle: float
    """Seconds that workers had no trial while a driver ran."""
    slots: int
    """The greatest number of trials that ran at once."""
    wall: float
    """Seconds that a driver worked on the study."""

    @property
    def busy(self) -> float:
        """Worker seconds given to trials."""
        return sum(self.by_kind.values())


def account(study: StudyRecord) -> Time:
    """Add up the worker time of a study."""
    attempts = spans(study)
    totals = dict.fromkeys(KINDS, 0.0)
    for span in attempts:
        for segment in span.segments:
            totals[segment.kind] += segment.end - segment.start
    wall = Clock(study, attempts).total
    slots = _most_at_once(attempts)
    return Time(totals, max(0.0, slots * wall - sum(totals.values())), slots, wall)


def _most_at_once(attempts: Sequence[Span]) -> int:
    # An end sorts before a start at the same moment: the slot is free again.
    events = sorted(moment for span in attempts if span.seconds > 0 for moment in ((span.start, 1), (span.end, -1)))
    return max(itertools.accumulate((change for _, change in events)), default=0)


def ended(trial: TrialRecord) -> float | None:
    """When a trial ended, or when it last reported. Landing keeps a pruned one until its study ends."""
    if trial.status == "pruned" and trial.attempts and trial.attempts[-1].ended is not None:
        return trial.attempts[-1].ended
    if trial.finished is not None:
        return trial.finished
    return trial.epochs[-1].recorded if trial.epochs else None
