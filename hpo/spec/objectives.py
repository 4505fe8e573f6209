"""The objectives of a study, and their values in a trial's epochs.

The first objective is the primary one: ASHA, the samplers and the choice of the best trial compare trials by its
*score*, which is its value, or the value's negative if the objective is minimised. So a larger score is always better.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from hpo.spec.parameters import Section
from trainers.api import EpochMetrics

Name: TypeAlias = Literal[
    "val_accuracy", "val_balanced_accuracy", "val_macro_f1", "seconds_per_epoch", "images_per_s", "params", "macs"
]
QUALITIES = ("val_accuracy", "val_balanced_accuracy", "val_macro_f1")
"""Objectives that measure what the model can do, from 0 to 1. One of them is the first objective."""


class OwnObjective(Section):
    """An objective of your own trainer."""

    metric: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,39}$")]
    """Its name: a number among the fields of `EpochMetrics`, for example `val_loss`, or a key of `EpochMetrics.own`."""
    direction: Literal["maximize", "minimize"]
    """Whether a larger or a smaller value is better."""


def _form(entry: object) -> str:
    return "own" if isinstance(entry, Mapping | OwnObjective) else "name"


Choice: TypeAlias = Annotated[Annotated[Name, Tag("name")] | Annotated[OwnObjective, Tag("own")], Discriminator(_form)]
"""An objective as a specification names it."""


@dataclass(frozen=True)
class Objective:
    """One objective and its direction."""

    name: str
    field: str
    """The field of `EpochMetrics`, or the key of its `own`, with its value."""
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
        return self.value([reported(metrics, self.field) for metrics in epochs])

    def score(self, value: float) -> float:
        """`value` so that larger is better. It also gives the value of a score."""
        return value if self.maximize else -value

    def score_of(self, metrics: EpochMetrics) -> float | None:
        """The score after one epoch, for the primary objective; None if the trainer did not report it."""
        value = reported(metrics, self.field)
        return None if value is None else self.score(value)

    @property
    def is_accuracy(self) -> bool:
        """Whether it is the validation accuracy: a share of images, shown in percent, with intervals."""
        return self.name == "val_accuracy"

    @property
    def axis(self) -> str:
        """Title of an axis of `plotted` scores."""
        if self.is_accuracy:
            return "Validation accuracy (%)"
        return self.label if self.maximize else f"−{self.label} (higher is better)"

    @property
    def column(self) -> str:
        """Title of a column of a table."""
        return "val acc" if self.is_accuracy else self.label

    def plotted(self, score: float) -> float:
        """A score as figures show it, a larger one above: accuracies in percent, rounded to keep the file small."""
        return round(100 * score, 3) if self.is_accuracy else float(f"{score:.6g}")

    def show_score(self, score: float | None) -> str:
        """The value of a score for people."""
        return self.show(None if score is None else self.score(score))

    def show_estimate(self, score: float, deviation: float) -> str:
        """The value of a score that is not certain, for people: `93.1 ± 0.6 %`."""
        if self.is_accuracy:
            return f"{100 * score:.1f} ± {100 * deviation:.1f} %"
        return f"{self.show_score(score)} ± {deviation:.2g}"

    def show_gain(self, gain: float) -> str:
        """A difference of scores for people: `+0.80 points`, or one of values: `-0.031 (lower is better)`."""
        if self.is_accuracy:
            return f"{100 * gain:+.2f} points"
        return f"{self.score(gain):+.3g} ({'higher' if self.maximize else 'lower'} is better)"

    def show(self, value: float | None) -> str:
        """The value for people, without its unit."""
        if value is None:
            return "–"
        if self.name == "val_accuracy":
            return f"{100 * value:.2f} %"
        cost = self.name in OBJECTIVES and self.name not in QUALITIES
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{3 if cost else 4}g}"


OBJECTIVES: Mapping[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective("val_accuracy", "val_accuracy", True, False, "validation accuracy"),
        Objective("val_balanced_accuracy", "val_balanced_accuracy", True, False, "validation balanced accuracy"),
        Objective("val_macro_f1", "val_macro_f1", True, False, "validation macro-F1"),
        Objective("seconds_per_epoch", "seconds", False, True, "seconds per epoch"),
        Objective("images_per_s", "images_per_second", True, True, "images per second"),
        Objective("params", "params", False, False, "parameters"),
        Objective("macs", "macs", False, False, "multiply-accumulates per image"),
    )
}


VAL_ACCURACY = OBJECTIVES["val_accuracy"]


def reported(metrics: EpochMetrics, name: str) -> float | None:
    """The value of a field of `EpochMetrics`, or of a key of its `own`; None if the trainer did not report it."""
    value = getattr(metrics, name) if name in metrics.__dataclass_fields__ else (metrics.own or {}).get(name)
    return None if value is None else float(value)


def objective(choice: Choice) -> Objective:
    """What a specification names as an objective."""
    if isinstance(choice, str):
        return OBJECTIVES[choice]
    return Objective(choice.metric, choice.metric, choice.direction == "maximize", False, choice.metric)


def objectives(names: Sequence[Choice]) -> list[Objective]:
    """The objectives of these names, in this order."""
    return [objective(name) for name in names]


def unreported(names: Sequence[Choice], metrics: EpochMetrics) -> list[str]:
    """Fields that the objectives need and `metrics` does not have."""
    return [objective.field for objective in objectives(names) if objective.of([metrics]) is None]


def values(epochs: Sequence[EpochMetrics], names: Sequence[Choice]) -> list[float]:
    """One value per objective, of a trial whose epochs reported all of them."""
    every = [objective.of(epochs) for objective in objectives(names)]
    return [value for value in every if value is not None]
