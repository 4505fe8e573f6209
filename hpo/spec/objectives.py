"""The objectives of a study, and their values in a trial's epochs."""

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
    """One objective and its direction."""

    name: str
    field: str
    """The field of `EpochMetrics` with its value."""
    maximize: bool
    mean: bool
    """Whether its value is the mean over the epochs, because it varies with the image size; else it is the newest
    value."""
    label: str
    """Name with unit, for axes and tables."""

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """The direction as Optuna names it."""
        return "maximize" if self.maximize else "minimize"

    def value(self, column: Sequence[float | None]) -> float | None:
        """The trial's value; `column` has the field's values, oldest epoch first. None if no value is finite."""
        finite = [value for value in column if value is not None and math.isfinite(value)]
        if not finite:
            return None
        return statistics.fmean(finite) if self.mean else finite[-1]

    def of(self, epochs: Sequence[EpochMetrics]) -> float | None:
        """The value of a trial that has reported these epochs, oldest first; None if none of them has it."""
        return self.value([getattr(metrics, self.field) for metrics in epochs])

    def score(self, value: float) -> float:
        """`value` so that larger is better."""
        return value if self.maximize else -value

    def show(self, value: float | None) -> str:
        """The value for people, without its unit."""
        if value is None:
            return "–"
        if self.name == "val_accuracy":
            return f"{100 * value:.2f} %"
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


OBJECTIVES: Mapping[str, Objective] = {
    objective.name: objective
    for objective in (
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
    """Fields that the objectives need and `metrics` does not have."""
    return [objective.field for objective in objectives(names) if objective.of([metrics]) is None]


def values(epochs: Sequence[EpochMetrics], names: Sequence[str]) -> list[float]:
    """One value per objective, of a trial whose epochs reported all of them."""
    reported = [objective.of(epochs) for objective in objectives(names)]
    return [value for value in reported if value is not None]
