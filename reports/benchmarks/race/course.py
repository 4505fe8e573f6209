"""What both stacks search and train, and what is measured of a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.api import DataConfig

LR, DROPOUT, MAGNITUDE = (1e-4, 1e-2), (0.0, 0.5), (0.0, 15.0)
"""The searched ranges: learning rate of AdamW (logarithmic), dropout, RandAugment's magnitude."""
WEIGHT_DECAY, LAYERS, REDUCTION, GRACE, AT_ONCE = 0.01, 2, 2, 1, 2


@dataclass(frozen=True)
class Course:
    """The task of a race: two trials at once, each on one CPU core, judged by ASHA."""

    model: str
    size: int
    """Pixels."""
    images: int
    """Training images, of 1,000 more for the validation at most."""
    epochs: int
    """Of a whole trial."""
    trials: int
    batch: int
    data: Literal["cifar10", "shapes"]
    root: str
    cache_dir: str

    @property
    def source(self) -> DataConfig:
        """The images of both stacks."""
        held_out = min(1000, self.images)
        return DataConfig(name=self.data, root=self.root, train_limit=self.images, validation_limit=held_out)


@dataclass(frozen=True)
class Epoch:
    """One finished epoch of a trial."""

    trial: str
    epoch: int
    began: float
    """Seconds after the start of the command."""
    ended: float
    """Seconds after the start of the command, with the evaluation."""
    images: int
    """Images trained on."""
    val_accuracy: float
    """0 to 1."""


@dataclass(frozen=True)
class Finish:
    """A study from the start of its command to its end."""

    stack: str
    """`hpo` or `by hand`."""
    seconds: float
    epochs: tuple[Epoch, ...]

    @property
    def rate(self) -> float:
        """Images per second of the whole study."""
        return sum(epoch.images for epoch in self.epochs) / self.seconds

    @property
    def under_way(self) -> float:
        """Seconds until the first epoch began."""
        return min(epoch.began for epoch in self.epochs)

    @property
    def best(self) -> float:
        """The best validation accuracy of any epoch."""
        return max(epoch.val_accuracy for epoch in self.epochs)

    def reached(self, accuracy: float) -> float | None:
        """Seconds until the first epoch with that validation accuracy; None if there is none."""
        return min((epoch.ended for epoch in self.epochs if epoch.val_accuracy >= accuracy), default=None)
