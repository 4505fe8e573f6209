"""A table of complete trainings: its file, and the study that each row belongs to."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.spec.study import Spec
from trainers.files import replace_atomically

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One configuration, trained to its end without pruning. Lists have one entry per epoch."""

    study: str
    number: int
    """Which point of the study's Sobol sequence it is, from 0."""
    seed: int
    """Seed of the training."""
    values: dict[str, Any]
    """Searched settings by dotted path, without inactive ones."""
    val_accuracy: list[float]
    """0 to 1."""
    val_loss: list[float]
    """Mean cross-entropy, nats."""
    image_size: list[int]
    """Pixels."""
    images: list[int]
    """Training images of the epoch."""
    cpu_seconds: list[float]
    """Processor time of the epoch with its evaluation, on one thread. The first epoch includes loading."""
    failure: str | None = None
    """Why the training ended early; None: it did not."""

    @property
    def compute(self) -> Array:
        """Cumulative compute after each epoch, images x px^2."""
        return np.cumsum(np.array(self.images, dtype=float) * np.square(self.image_size))

    def unit(self, spec: Spec) -> float:
        """Compute of one epoch at the study's largest size, which its rungs count."""
        train = spec.base().train
        return self.images[0] * float(train.compute_size or train.progressive.size.end) ** 2

    @property
    def stage_ends(self) -> list[int]:
        """Epochs after which the image size changes, and the last one. Stages of one size count as one."""
        after = [*self.image_size[1:], None]
        return [epoch for epoch, (now, then) in enumerate(zip(self.image_size, after, strict=True), 1) if now != then]


@dataclass(frozen=True)
class Table:
    """All rows of some studies, and how they were made."""

    made: Mapping[str, Any]
    """Machine and versions."""
    seed: int
    """Seed of the Sobol sequences."""
    studies: dict[str, Spec]
    """The studies by name, as they were trained."""
    rows: tuple[Row, ...] = ()

    def of(self, study: str) -> list[Row]:
        """The rows of a study that have all epochs, by number."""
        rows = [row for row in self.rows if row.study == study and row.failure is None]
        return sorted(rows, key=lambda row: row.number)

    def order(self, count: int) -> list[tuple[str, int]]:
        """The first `count` rows as (study, number). The studies take turns, so every part of a table is balanced."""
        turns = ((study, number) for number in itertools.count() for study in self.studies)
        return list(itertools.islice(turns, count))


def read(path: Path) -> Table:
    """Read a table that `write` has written."""
    content = json.loads(path.read_text(encoding="utf-8"))
    studies = {name: Spec.from_json(json.dumps(spec)) for name, spec in content["studies"].items()}
    return Table(content["made"], content["seed"], studies, tuple(Row(**row) for row in content["rows"]))


def write(path: Path, table: Table) -> None:
    """Replace the file by the table, one row a line. Whoever is killed meanwhile leaves the former file."""
    studies = {name: spec.model_dump(mode="json") for name, spec in table.studies.items()}
    head = {"made": table.made, "seed": table.seed, "studies": studies}
    rows = sorted(table.rows, key=lambda row: (row.number, row.study))
    text = f"{json.dumps(head)[:-1]},\n" + _list("rows", [asdict(row) for row in rows]) + "}\n"
    replace_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _list(name: str, items: Sequence[Mapping[str, Any]]) -> str:
    return f'"{name}": [\n' + ",\n".join(json.dumps(item) for item in items) + "\n]"
