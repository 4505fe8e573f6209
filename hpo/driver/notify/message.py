"""What a receiver is told. `reports/docs/notifications.md` documents it."""

from __future__ import annotations

import socket
from typing import Any, Literal

from hpo.clock import Clock
from hpo.ledger.records import StudyRecord
from hpo.redact import as_reason
from hpo.results.progress import progress
from hpo.results.winner import Winner, winner
from hpo.text import first_line, iso

VERSION = 1
"""Grows when a field is renamed or removed, or its meaning changes; new fields may be added at any time."""

Kind = Literal["end", "failure", "best", "test"]


def message(kind: Kind, study: StudyRecord, reason: str | None = None) -> dict[str, Any]:
    """The body of a notification.

    Args:
        reason: why an error stopped the study.
    """
    now, best = progress(study), winner(study)
    reason = first_line(as_reason(reason or study.ended or "")) or None
    return {
        "version": VERSION,
        "event": kind,
        "text": _text(kind, study, now.state, best, reason),
        "study": study.name,
        "state": now.state,
        "reason": reason,
        "best": best and _best(best),
        "counts": dict(now.counts),
        "ended": now.ended,
        "trials": now.trials,
        "seconds": round(study.seconds, 1),
        "host": socket.gethostname(),
        "time": iso(Clock().now()),
    }


def _best(best: Winner) -> dict[str, Any]:
    return {
        "trial": best.trial.number,
        "objective": best.objective.name,
        "value": best.objective.score(best.accuracy),
        "shown": best.shown,
        "confirmed": best.confirmation is not None,
        "is_baseline": best.is_baseline,
        "parameters": dict(best.trial.assigned),
    }


def _text(kind: Kind, study: StudyRecord, state: str, best: Winner | None, reason: str | None) -> str:
    """One line for a chat or the subject of a mail."""
    found = f"{best.objective.label} {best.shown}, trial {best.trial.number}" if best else "no trial is complete yet"
    if kind == "test":
        return f"{study.name}: a test message of hpo"
    if kind == "best":
        return f"{study.name}: new best: {found}"
    why = f" ({reason})" if reason else ""
    chosen = "confirmed" if best and best.confirmation else "best"
    return f"{study.name}: {'failed' if kind == 'failure' else state}{why}; {chosen}: {found}"
