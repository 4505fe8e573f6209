"""The configurations of a study that need the most memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hpo.spec.configure import configure
from hpo.spec.corners import corners
from hpo.spec.enqueued import parts
from hpo.spec.parameters import Choice
from hpo.spec.study import Spec
from trainers import schedule
from trainers.api import TrialConfig

COSTLY = ("model.name", "train.batch_size", "train.accumulate", "train.progressive", "train.ema", "train.epochs")
"""Beginnings of the parameters that change the cost of a step."""


def heaviest(spec: Spec) -> list[TrialConfig]:
    """For each model of the study, the configuration with the most pixels per micro-batch in its last stage."""
    heaviest_of: dict[str, TrialConfig] = {}
    for config in _different(spec):
        heaviest_so_far = heaviest_of.get(config.model.name)
        if heaviest_so_far is None or _pixels(config) > _pixels(heaviest_so_far):
            heaviest_of[config.model.name] = config
    return list(heaviest_of.values())


def _different(spec: Spec) -> Iterator[TrialConfig]:
    """The corners of the space that differ in cost, and what is enqueued, which may lie outside of the space."""
    base = spec.base()
    costly = {name for name in spec.space if name.startswith(COSTLY)}
    different = {repr(_only(corner, costly)): corner for corner in corners(spec.space).combinations}
    for values in different.values():
        yield configure(base, values)
    for entry in spec.enqueue:
        enqueued = parts(entry, spec.space)
        yield configure(base, {**enqueued.values, **enqueued.settings})


def _only(values: Mapping[str, Choice], names: set[str]) -> dict[str, Choice]:
    return {name: value for name, value in values.items() if name in names}


def _pixels(config: TrialConfig) -> float:
    train = config.train
    batch = train.batch_size if isinstance(train.batch_size, int) else 1
    last = schedule.stages(train.progressive, train.epochs)[-1]
    parts_of_batch = train.accumulate if isinstance(train.accumulate, int) else 1
    return float(batch / parts_of_batch * last.size**2)
