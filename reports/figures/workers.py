"""Worker time: totals by kind of work, and a timeline of each worker's trials (Gantt chart)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hpo.ledger.records import StudyRecord
from hpo.text import duration
from reports.analysis.timeline import EVAL, KINDS, LOST, OTHER, START, TRAIN, Clock, Span, Time, account, spans
from reports.drawing import palette
from reports.drawing.plot import Axis, Bars, Missing, Panel, Plot, Rule

IDLE = "idle"
COLOR = {
    TRAIN: palette.BLUE,
    EVAL: palette.SKY,
    START: palette.ORANGE,
    OTHER: palette.PURPLE,
    LOST: palette.VERMILION,
    IDLE: "#c9cdd3",
}
NOTHING = "No trial has started yet."
MOST_BARS = 4_000
MOST_WORKERS = 48


@dataclass(frozen=True)
class Piece:
    """One bar of the timeline; `start` and `end` in seconds since 1970."""

    span: Span
    kind: str
    start: float
    end: float


# ---------------------------------------------------------------------------------------------------- totals


def totals(studies: Sequence[StudyRecord]) -> Plot | Missing:
    """Worker time by kind of work, one bar per study."""
    title = "Worker time"
    times = [account(study) for study in studies]
    if not any(time.busy for time in times):
        return Missing(title, NOTHING)
    unit, seconds = time_unit(max(time.busy + time.idle for time in times))
    rows = [float(len(studies) - 1 - place) for place in range(len(studies))]
    ticks = [(row, study.name) for row, study in zip(rows, studies, strict=True)]
    longest = max(time.busy + time.idle for time in times) / seconds
    slots = ", ".join(f"{time.slots} at once" for time in times)
    return Plot(
        "time",
        title,
        [
            Panel(
                Axis(f"Worker time ({unit})", (0.0, 1.02 * longest)),
                Axis("", (-0.6, len(studies) - 0.4), ticks),
                _total_bars(times, rows, unit, seconds),
            )
        ],
        f"Sum over all workers ({slots}). Start-up: from the start of a trial to its first epoch. "
        "Idle: a driver ran, but the worker had no trial.",
        height=140 + 46 * len(studies),
    )


def _total_bars(times: Sequence[Time], rows: list[float], unit: str, seconds: float) -> list[Bars]:
    """One series of bars per kind of work, each beginning where the one before ends."""
    starts = [0.0] * len(times)
    bars = []
    for kind in (*KINDS, IDLE):
        lengths = [(time.idle if kind == IDLE else time.by_kind[kind]) / seconds for time in times]
        if any(lengths):
            wholes = [(time.busy + time.idle) / seconds or 1.0 for time in times]
            shares = [length / whole for length, whole in zip(lengths, wholes, strict=True)]
            texts = [f"{100 * share:.0f} %" if share >= 0.04 else "" for share in shares]
            hover = [f"{kind}\n{length:.3g} {unit}" for length in lengths]
            bars.append(Bars(kind, rows, lengths, COLOR[kind], list(starts), True, 0.6, texts=texts, hover=hover))
        starts = [start + length for start, length in zip(starts, lengths, strict=True)]
    return bars


# -------------------------------------------------------------------------------------------------- timeline


def gantt(study: StudyRecord, key: str = "gantt") -> Plot | Missing:
    """A timeline with one row per worker process."""
    title = f"Workers of {study.name}"
    attempts = spans(study)
    if not attempts:
        return Missing(title, NOTHING)
    clock = Clock(study, attempts)
    unit, seconds = time_unit(clock.total)
    workers = list(dict.fromkeys(span.worker for span in attempts))
    shown = workers[:MOST_WORKERS]
    rows = {worker: float(len(shown) - 1 - place) for place, worker in enumerate(shown)}
    pieces, coarse = _pieces([span for span in attempts if span.worker in rows], clock)
    return Plot(
        key,
        title,
        [
            Panel(
                Axis(f"Study time ({unit})", (0.0, 1.02 * clock.total / seconds)),
                Axis("", (-0.6, len(rows) - 0.4), [(row, worker) for worker, row in rows.items()]),
                _timeline_bars(pieces, rows, clock, seconds, coarse=coarse),
                rules=[Rule(at / seconds, "resumed", dash="dash") for at in clock.breaks],
            )
        ],
        "Each row is a worker (host · process). Gaps: the worker had no trial. Study time runs only "
        "while a driver runs."
        + (f" The figure leaves out {len(workers) - len(rows):,} further workers." if len(workers) > len(rows) else "")
        + (" Neighbouring bars of one kind are joined." if coarse else ""),
        height=140 + (30 if len(rows) < 12 else 16) * len(rows),
    )


def _timeline_bars(
    pieces: Sequence[Piece], rows: dict[str, float], clock: Clock, seconds: float, *, coarse: bool
) -> list[Bars]:
    """One series of bars per kind of work."""
    bars = []
    for kind in KINDS:
        chosen = [piece for piece in pieces if piece.kind == kind]
        if not chosen:
            continue
        places = [(clock.position(piece.start) / seconds, clock.position(piece.end) / seconds) for piece in chosen]
        bars.append(
            Bars(
                kind,
                [rows[piece.span.worker] for piece in chosen],
                [round(end - start, 5) for start, end in places],
                COLOR[kind],
                [round(start, 5) for start, _ in places],
                horizontal=True,
                hover=[_hover(piece, coarse) for piece in chosen],
            )
        )
    return bars


def _hover(piece: Piece, coarse: bool) -> str:
    first = "from " if coarse else ""
    length = duration(piece.end - piece.start)
    return f"{first}trial {piece.span.trial} ({piece.span.status})\n{piece.kind}, {length}"


def _pieces(attempts: Sequence[Span], clock: Clock) -> tuple[list[Piece], bool]:
    """The bars to draw, and whether they are coarse, because there would be too many."""
    if sum(len(span.segments) for span in attempts) <= MOST_BARS:
        return [Piece(span, part.kind, part.start, part.end) for span in attempts for part in span.segments], False
    return _joined([piece for span in attempts for piece in _coarse(span)], clock.total / 800), True


def _coarse(span: Span) -> list[Piece]:
    """An attempt as start-up, training and loss, without its single epochs."""
    pieces = [Piece(span, part.kind, part.start, part.end) for part in span.segments if part.kind in (START, LOST)]
    start = max((piece.end for piece in pieces if piece.kind == START), default=span.start)
    end = next((piece.start for piece in pieces if piece.kind == LOST), span.end)
    return [*pieces, Piece(span, TRAIN, start, end)] if end > start else pieces


def _joined(pieces: Sequence[Piece], gap: float) -> list[Piece]:
    """Join neighbours of one kind on one worker that are less than `gap` seconds apart."""
    joined: dict[tuple[str, str], list[Piece]] = {}
    for piece in pieces:
        row = joined.setdefault((piece.span.worker, piece.kind), [])
        if row and piece.start - row[-1].end < gap and piece.kind != LOST:
            row[-1] = replace(row[-1], end=piece.end)
        else:
            row.append(piece)
    return [piece for row in joined.values() for piece in row]


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit for an axis of this length, and its length in seconds."""
    if seconds >= 2 * 3600:
        return "h", 3600.0
    return ("min", 60.0) if seconds >= 120 else ("s", 1.0)
