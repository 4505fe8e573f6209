"""What a study may optimise beside validation accuracy, and how a value is read from a trial's epochs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from trainers.api import EpochMetrics

Name: TypeAlias = Literal["val_accuracy", "seconds_per_epoch", "images_per_s", "params", "macs"]


@dataclass(frozen=True)
class Objective:
    """One objective. Its direction is part of its meaning."""

    name: str
    field: str
    """The field of `EpochMetrics` it is read from."""
    maximize: bool
    mean: bool
    """Over the epochs, for what varies with the image size; else the newest value counts."""
    label: str
    """With unit, for axes and tables."""

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """As Optuna calls it."""
        return "maximize" if self.maximize else "minimize"

    def value(self, column: Sequence[float | None]) -> float | None:
        """From the field's values of a trial's epochs, oldest first; None where none is known and finite."""
        known = [value for value in column if value is not None and math.isfinite(value)]
        if not known:
            return None
        return statistics.fmean(known) if self.mean else known[-1]

    def of(self, epochs: Sequence[EpochMetrics]) -> float | None:
        """The value of a trial that has reported these epochs, oldest first; None where none is known."""
        return self.value([getattr(metrics, self.field) for metrics in epochs])

    def score(self, value: float) -> float:
        """Larger is better."""
        return value if self.maximize else -value

    def show(self, value: float | None) -> str:
        """For people, without the unit."""
        if value is None:
            return "–"
        if self.name == "val_accuracy":
            return f"{100 * value:.2f} %"
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


OBJECTIVES: Mapping[str, Objective] = {
    one.name: one
    for one in (
        Objective("val_accuracy", "val_accuracy", True, False, "validation accuracy"),
        Objective("seconds_per_epoch", "seconds", False, True, "seconds per epoch"),
        Objective("images_per_s", "images_per_second", True, True, "images per second"),
        Objective("params", "params", False, False, "parameters"),
        Objective("macs", "macs", False, False, "multiply-accumulates per image"),
    )
}


def objectives(names: Sequence[str]) -> list[Objective]:
    """The objectives of these names, in this order."""
    return [OBJECTIVES[name] for name in names]


def unreported(names: Sequence[str], metrics: EpochMetrics) -> list[str]:
    """Fields that objectives need and an epoch's report lacks."""
    return [one.field for one in objectives(names) if one.value([getattr(metrics, one.field)]) is None]


def values(epochs: Sequence[EpochMetrics], names: Sequence[str]) -> list[float]:
    """One value per objective of a trial whose epochs reported them all."""
    found = [one.of(epochs) for one in objectives(names)]
    return [value for value in found if value is not None]
