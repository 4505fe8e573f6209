"""Where the time went: totals by kind, and each worker's trials as a Gantt chart."""

from __future__ import annotations

from collections.abc import Sequence

from hpo.ledger.records import StudyRecord
from reports.analysis.timeline import EVAL, KINDS, LOST, OTHER, START, TRAIN, Clock, Span, Time, account, spans
from reports.drawing import palette
from reports.drawing.plot import Axis, Bars, Missing, Panel, Plot, Rule

COLOR = {
    TRAIN: palette.BLUE,
    EVAL: palette.SKY,
    START: palette.ORANGE,
    OTHER: palette.PURPLE,
    LOST: palette.VERMILION,
    "idle": "#c9cdd3",
}
NOTHING = "No trial has begun yet."
MOST_BARS = 4_000
MOST_WORKERS = 48


def totals(studies: Sequence[StudyRecord]) -> Plot | Missing:
    """Worker hours by what was done with them, one bar per study."""
    title = "Worker time"
    times = [account(study) for study in studies]
    if not any(time.busy for time in times):
        return Missing(title, NOTHING)
    unit, seconds = time_unit(max(time.busy + time.idle for time in times))
    rows = [float(len(studies) - 1 - place) for place in range(len(studies))]
    starts = [0.0] * len(studies)
    bars = []
    for kind in (*KINDS, "idle"):
        lengths = [_of(time, kind) / seconds for time in times]
        if any(lengths):
            shares = [
                length * seconds / ((time.busy + time.idle) or 1.0) for length, time in zip(lengths, times, strict=True)
            ]
            texts = [f"{100 * share:.0f} %" if share >= 0.04 else "" for share in shares]
            hover = [f"{kind}\n{length:.3g} {unit}" for length in lengths]
            bars.append(Bars(kind, rows, lengths, COLOR[kind], list(starts), True, 0.6, texts=texts, hover=hover))
        starts = [start + length for start, length in zip(starts, lengths, strict=True)]
    ticks = [(row, study.name) for row, study in zip(rows, studies, strict=True)]
    slots = ", ".join(f"{time.slots} at once" for time in times)
    return Plot(
        "time",
        title,
        [
            Panel(
                Axis(f"Worker time ({unit})", (0.0, 1.02 * max(starts))),
                Axis("", (-0.6, len(studies) - 0.4), ticks),
                bars,
            )
        ],
        f"Sum over all workers ({slots}). Start-up: from a trial's start to its first epoch. "
        "Idle: a driver was at work and a worker had no trial.",
        height=140 + 46 * len(studies),
    )


def gantt(study: StudyRecord, key: str = "gantt") -> Plot | Missing:
    """One row per worker process."""
    title = f"Workers of {study.name}"
    attempts = spans(study)
    if not attempts:
        return Missing(title, NOTHING)
    clock = Clock(study, attempts)
    unit, seconds = time_unit(clock.total)
    workers = list(dict.fromkeys(span.worker for span in attempts))
    rows = {worker: float(len(workers[:MOST_WORKERS]) - 1 - i) for i, worker in enumerate(workers[:MOST_WORKERS])}
    shown = [span for span in attempts if span.worker in rows]
    coarse = sum(len(span.segments) for span in shown) > MOST_BARS
    pieces = [piece for span in shown for piece in _pieces(span, coarse)]
    if coarse:
        pieces = _joined(pieces, clock.total / 800)
    bars = []
    for kind in (*KINDS,):
        chosen = [(span, start, end) for span, one, start, end in pieces if one == kind]
        if chosen:
            places = [(clock.position(start) / seconds, clock.position(end) / seconds) for _, start, end in chosen]
            bars.append(
                Bars(
                    kind,
                    [rows[span.worker] for span, *_ in chosen],
                    [round(end - start, 5) for start, end in places],
                    COLOR[kind],
                    [round(start, 5) for start, _ in places],
                    horizontal=True,
                    hover=[
                        f"{'from ' if coarse else ''}trial {span.trial} ({span.status})\n"
                        f"{kind}, {duration(end - start)}"
                        for span, start, end in chosen
                    ],
                )
            )
    rules = [Rule(at / seconds, "resumed", dash="dash") for at in clock.breaks]
    more = f" {len(workers) - len(rows):,} further workers are not shown." if len(workers) > len(rows) else ""
    close = " Neighbouring stretches of one kind are drawn as one." if coarse else ""
    ticks = [(row, worker) for worker, row in rows.items()]
    return Plot(
        key,
        title,
        [
            Panel(
                Axis(f"Study time ({unit})", (0.0, 1.02 * clock.total / seconds)),
                Axis("", (-0.6, len(rows) - 0.4), ticks),
                bars,
                rules=rules,
            )
        ],
        f"Each row is a worker (host · process); gaps are idle. Study time runs while a driver does.{more}{close}",
        height=140 + (30 if len(rows) < 12 else 16) * len(rows),
    )


def _pieces(span: Span, coarse: bool) -> list[tuple[Span, str, float, float]]:
    if not coarse:
        return [(span, one.kind, one.start, one.end) for one in span.segments]
    found = []
    rest = span.start
    for one in span.segments:
        if one.kind in (START, LOST):
            found.append((span, one.kind, one.start, one.end))
            rest = one.end if one.kind == START else rest
    last = next((one.start for one in span.segments if one.kind == LOST), span.end)
    return [*found, (span, TRAIN, rest, last)] if last > rest else found


def _joined(pieces: list[tuple[Span, str, float, float]], gap: float) -> list[tuple[Span, str, float, float]]:
    """Neighbours of one kind on one worker as one bar; nobody could see them apart."""
    joined: dict[tuple[str, str], list[tuple[Span, str, float, float]]] = {}
    for piece in pieces:
        span, kind, start, end = piece
        row = joined.setdefault((span.worker, kind), [])
        if row and start - row[-1][3] < gap and kind != LOST:
            row[-1] = (*row[-1][:3], end)
        else:
            row.append(piece)
    return [piece for row in joined.values() for piece in row]


def _of(time: Time, kind: str) -> float:
    return time.idle if kind == "idle" else time.by_kind[kind]


def time_unit(seconds: float) -> tuple[str, float]:
    """A unit that suits a duration, and its length in seconds."""
    if seconds >= 2 * 3600:
        return "h", 3600.0
    return ("min", 60.0) if seconds >= 120 else ("s", 1.0)


def duration(seconds: float) -> str:
    """A duration for people: `3.2 h`, `14 min`, `41 s`."""
    unit, length = time_unit(seconds)
    amount = seconds / length
    return f"{amount:,.1f} {unit}" if amount < 100 else f"{amount:,.0f} {unit}"
