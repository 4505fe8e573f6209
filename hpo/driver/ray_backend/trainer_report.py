"""A trainer's report, checked where it is made: a mistake ends its own trial at once, with a sentence that names it."""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from trainers.api import EpochMetrics, TrainerError

FIELDS = {field.name: str(field.type).removesuffix(" | None") for field in dataclasses.fields(EpochMetrics)}
"""Every field of a report, and the type that it takes: `int`, `float` or `str`."""
EXAMPLE = "yield EpochMetrics(epoch=1, val_accuracy=0.5) after each epoch"
OWN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
LONGEST_TEXT = 500
"""Longest text in a report, in characters. The ledger and MLflow keep it for every epoch."""
SHOWN = 80
"""Longest value that a message shows, in characters."""


class ReportError(TrainerError):
    """A trainer yields something that is no valid report. The text says what, and what to yield instead."""


def as_iterator(result: object) -> Iterator[Any]:
    """What a trainer returned, as an iterator over reports.

    Raises:
        ReportError: it is none, for example because `train` returns a value instead of yielding.
    """
    if isinstance(result, EpochMetrics | dict | str | bytes) or not hasattr(result, "__iter__"):
        raise ReportError(f"the trainer returned {_kind(result)} instead of an iterator; {EXAMPLE}")
    return iter(result)


def checked(report: object, previous: int | None = None, objective: str = "val_accuracy") -> EpochMetrics:
    """`report` with plain numbers: NumPy's and tensors of one element become `int` and `float`.

    A value that is not finite is passed on, because it is a result: the training diverged.

    Args:
        previous: epoch of the report before it in the same process; None for the first one.
        objective: what the study compares trials by: a field of `EpochMetrics` or a key of its `own`.

    Raises:
        ReportError: it is no `EpochMetrics`, one of its values has another type or range than its field, or its epoch
            is not the next one. A trainer that repeats an epoch would never end.
    """
    if not isinstance(report, EpochMetrics):
        raise ReportError(f"the trainer yielded {_kind(report)}; {EXAMPLE}")
    extra = sorted({field.name for field in dataclasses.fields(report)} - FIELDS.keys())
    if extra:
        raise ReportError(
            f"the trainer reported {', '.join(extra)}, which EpochMetrics does not have; "
            f"yield EpochMetrics itself. It has: {', '.join(FIELDS)}"
        )
    required = ("epoch", objective)
    values = {name: _plain(name, kind, getattr(report, name), required) for name, kind in FIELDS.items()}
    if values["own"] is not None:
        values["own"] = _own(values["own"])
    if objective not in FIELDS and objective not in (values["own"] or {}):
        raise ReportError(
            f"the trainer did not report {objective}, the objective of the study; "
            f"yield EpochMetrics(epoch=..., own={{'{objective}': ...}})"
        )
    if values["epoch"] < 1:
        raise ReportError(f"the trainer reported epoch {values['epoch']}; epochs count from 1")
    if previous is not None and values["epoch"] != previous + 1:
        raise ReportError(
            f"the trainer reported epoch {values['epoch']} after epoch {previous}; report every epoch once, in order"
        )
    accuracy = values["val_accuracy"]
    if accuracy is not None and math.isfinite(accuracy) and not 0 <= accuracy <= 1:
        remedy = "divide percent by 100" if 1 < accuracy <= 100 else "report the share of correct images"
        raise ReportError(f"the trainer reported val_accuracy {accuracy:g}; it must be from 0 to 1: {remedy}")
    return EpochMetrics(**values)


def described(error: BaseException) -> str:
    """An exception as `Type: text`, also where its own text cannot be had."""
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException as second:  # noqa: BLE001 - any error in `__str__` is the trainer's mistake
        return f"{name} (its text cannot be shown: {type(second).__name__} in __str__)"
    return f"{name}: {text}" if text else name


def _own(reported: Mapping[Any, Any]) -> dict[str, float]:
    """A trainer's own metrics as plain numbers."""
    values = {}
    for name, value in reported.items():
        if not isinstance(name, str) or not OWN_NAME.fullmatch(name) or name in FIELDS:
            raise ReportError(
                f"the trainer reported the metric {_kind(name)} in own; a name has letters, digits and _, "
                f"begins with a letter, has at most 40 characters, and is no field of EpochMetrics"
            )
        label = f"own['{name}']"
        values[name] = float(_plain(label, "float", value, (label,)))
    return values


def _plain(name: str, kind: str, value: Any, required: Collection[str]) -> Any:
    if value is None and name not in required:
        return None
    if kind.startswith("Mapping"):
        if isinstance(value, Mapping):
            return value
        raise ReportError(f"the trainer reported {name} as {_kind(value)}; it must be a dict of names and numbers")
    if kind == "str":
        if isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable():
            return str(value)
        raise ReportError(
            f"the trainer reported {name} as {_kind(value)}; it must be a text of at most {LONGEST_TEXT} characters"
        )
    number = _number(value)
    if number is None:
        raise ReportError(f"the trainer reported {name} as {_kind(value)}; it must be one number")
    if kind == "int" and isinstance(number, float):
        if not number.is_integer():
            raise ReportError(f"the trainer reported {name} {number:g}; it must be a whole number")
        number = int(number)
    if isinstance(number, int) and not -(2**63) <= number < 2**63:
        raise ReportError(f"the trainer reported {name} as a whole number that does not fit 64 bits")
    return number if kind == "int" else float(number)


def _number(value: Any) -> int | float | None:
    """A Python number, for numbers of Python and NumPy and for arrays and tensors of one element."""
    if not isinstance(value, numbers.Number) and hasattr(value, "item"):
        masked = getattr(value, "mask", False)  # NumPy's `masked`, for example the mean of nothing, has an item: 0
        try:
            value = value.item()
        except Exception:  # noqa: BLE001 - more than one element, or any error of a class of the trainer's own
            return None
        if masked is not False and bool(masked):
            return None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    except Exception:  # noqa: BLE001 - as above; also NumPy's durations, which only call themselves whole numbers
        return None


def _kind(value: object) -> str:
    if value is None:
        return "None"
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001 - any error in `__repr__` is the trainer's mistake
        shown = "a value that cannot be shown"
    shown = " ".join(shown.split())
    text = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
    return f"a {type(value).__name__} ({text})"
