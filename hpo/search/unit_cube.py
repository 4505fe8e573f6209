"""A search space as numbers: parameters as points of a unit cube and back, and as features for a kernel.

A point of the *unit cube* has one coordinate per parameter, in [0, 1]; NaN if the parameter is inactive. The steps of
an integer and the choices of a categorical parameter are cells of equal size, and a value is at the centre of its cell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

Array = NDArray[np.float64]
Active = Callable[[Mapping[str, Any]], Collection[str]]
"""From values of parameters, inactive ones included, to the names of the active parameters."""

DRAWS = 1_000
"""Random points drawn to find a new one; that fails only if nearly all points of the space have been tried."""


class UnitCube:
    """Named distributions; some may depend on the values of others."""

    def __init__(self, distributions: Mapping[str, BaseDistribution], active: Active | None = None) -> None:
        self.distributions = dict(distributions)
        self.active = active
        self._axes = [(name, _axis(distribution)) for name, distribution in distributions.items()]

    def __len__(self) -> int:
        return len(self._axes)

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> Array:
        """Parameters as points of the unit cube, (n, parameters); parameters that a row lacks are NaN."""
        cube = np.full((len(rows), len(self)), math.nan)
        for column, (name, axis) in enumerate(self._axes):
            having = [index for index, row in enumerate(rows) if name in row]
            cube[having, column] = axis.encode([rows[index][name] for index in having])
        return cube

    def decode(self, cube: Array) -> list[dict[str, Any]]:
        """Points of the unit cube as parameters, without the inactive ones."""
        columns = [axis.decode(column) for (_, axis), column in self._columns(cube)]
        names, present = list(self.distributions), ~np.isnan(cube)
        return [
            {name: value for name, value, is_active in zip(names, values, row, strict=True) if is_active}
            for values, row in zip(zip(*columns, strict=True), present.tolist(), strict=True)
        ]

    def settle(self, cube: Array) -> Array:
        """Any points of the cube (without NaN) moved to points that exist: on the grid, and NaN where inactive."""
        settled = np.column_stack([axis.settle(column) for (_, axis), column in self._columns(cube)])
        if self.active is not None:
            for row, values in zip(settled, self.decode(settled), strict=True):
                names = in_force(values, self.active)
                if len(names) < len(self):
                    row[[name not in names for name, _ in self._axes]] = math.nan
        return settled

    def keys(self, cube: Array) -> list[bytes]:
        """A key for each settled or encoded point; two points have the same key if they are the same configuration."""
        return [row.tobytes() for row in np.nan_to_num(cube.round(9), nan=-1.0)]

    def untried(self, tried: Collection[bytes], rng: np.random.Generator) -> Array | None:
        """A random point, (1, parameters), whose key is not in `tried`; None if many draws find none."""
        points = self.settle(rng.random((DRAWS, len(self))))
        return next((row[None] for row, key in zip(points, self.keys(points), strict=True) if key not in tried), None)

    def features(self, cube: Array) -> Array:
        """Points as features, (n, features), with a Euclidean distance that makes sense.

        Numbers are in [-0.5, 0.5], and two choices of a categorical parameter have distance 1. An inactive parameter
        is at the centre of its range, and half a range away from the plane of the active ones.
        """
        return np.hstack([axis.features(column) for (_, axis), column in self._columns(cube)])

    def owners(self) -> NDArray[np.intp]:
        """Which parameter each feature belongs to."""
        return np.repeat(np.arange(len(self)), [len(axis.features(np.zeros(1))[0]) for _, axis in self._axes])

    def cells(self, name: str) -> int:
        """Cells of equal size that a parameter has, at whose centres its values are; 0 if it has none."""
        return dict(self._axes)[name].cells

    def _columns(self, cube: Array) -> Iterator[tuple[tuple[str, _Axis], Array]]:
        return zip(self._axes, cube.T, strict=True)


def in_force(values: Mapping[str, Any], active: Active) -> Mapping[str, Any]:
    """The values of active parameters. A parameter that depends on an inactive one is inactive too."""
    while True:
        names = active(values)
        kept = {name: value for name, value in values.items() if name in names}
        if len(kept) == len(values):
            return kept
        values = kept


@dataclass(frozen=True)
class _Axis:
    """One parameter on [0, 1]: continuous if `cells` is 0, else with so many cells of equal size."""

    distribution: BaseDistribution
    cells: int
    low: float
    high: float
    log: bool = False
    integer: bool = False

    def encode(self, values: Sequence[Any]) -> Array:
        return self._unit(np.array([self.distribution.to_internal_repr(value) for value in values], dtype=float))

    def decode(self, column: Array) -> list[Any]:
        internal = self._internal(np.where(np.isnan(column), 0.5, column)).tolist()
        if isinstance(self.distribution, CategoricalDistribution):
            return [self.distribution.choices[int(index)] for index in internal]
        return [int(value) for value in internal] if self.integer else internal

    def settle(self, column: Array) -> Array:
        return self._unit(self._internal(column))

    def features(self, column: Array) -> Array:
        inactive = np.isnan(column)
        if isinstance(self.distribution, CategoricalDistribution):
            chosen = self._internal(np.where(inactive, 0.0, column))[:, None] == np.arange(self.cells)
            return np.where(chosen & ~inactive[:, None], math.sqrt(0.5), 0.0)
        return np.column_stack([np.where(inactive, 0.0, column - 0.5), np.where(inactive, 0.5, 0.0)])

    def _unit(self, internal: Array) -> Array:
        if self.cells:
            step = (self.high - self.low) / max(self.cells - 1, 1) or 1.0
            cell = np.clip(np.rint((internal - self.low) / step), 0, self.cells - 1)
            return np.asarray((cell + 0.5) / self.cells)
        if self.high == self.low:
            return np.full(internal.shape, 0.5)
        value = np.log(np.maximum(internal, math.exp(self.low))) if self.log else internal
        return np.asarray(np.clip((value - self.low) / (self.high - self.low), 0, 1))

    def _internal(self, column: Array) -> Array:
        if self.cells:
            cell = np.clip(np.floor(column * self.cells), 0, self.cells - 1)
            value = self.low + cell * (self.high - self.low) / max(self.cells - 1, 1)
            return np.asarray(np.clip(value, self.low, self.high))  # -0.1 + 0.4 is above 0.3
        value = self.low + np.clip(column, 0, 1) * (self.high - self.low)
        value = np.exp(value) if self.log else value
        bounds = self.distribution
        assert isinstance(bounds, FloatDistribution | IntDistribution)
        return np.clip(np.rint(value) if self.integer else value, bounds.low, bounds.high)


def _axis(distribution: BaseDistribution) -> _Axis:
    if isinstance(distribution, CategoricalDistribution):
        cells = len(distribution.choices)
        return _Axis(distribution, cells, 0, cells - 1)
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        raise TypeError(f"{type(distribution).__name__} is not a float, integer or categorical distribution")
    low, high, integer = distribution.low, distribution.high, isinstance(distribution, IntDistribution)
    if distribution.log:
        half = 0.5 if integer else 0.0  # equal shares for the first and the last integer
        return _Axis(distribution, 0, math.log(low - half), math.log(high + half), log=True, integer=integer)
    if distribution.step is not None:
        return _Axis(distribution, round((high - low) / distribution.step) + 1, low, high, integer=integer)
    return _Axis(distribution, 0, low, high)
