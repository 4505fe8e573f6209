"""Where the people who made a study expect good values, as a density over the unit cube.

The expected improvement is multiplied by the density to a power that fades as evidence comes in (πBO, Hvarfner et al.,
ICLR 2022, arXiv 2204.11051, equation 6). The paper's power is beta / n, and n counts trials. Here n counts full
trainings' worth of epochs, because with early stopping most trials are short and a study has many more of them; and the
power is at most 1, so that short trials do not make of a prior more than its author said.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from hpo.search.unit_cube import Array, UnitCube
from hpo.spec.parameters import Prior

BETA = 0.5
"""The density counts in full until so many full trainings' worth of epochs are known; see the benchmark of priors."""
DEVIATION = {"low": 0.5, "medium": 0.25, "high": 0.125}
"""Standard deviation by confidence, as a share of the range. The words are those of NePS; the figures are ours."""
ODDS = {"low": 2.0, "medium": 4.0, "high": 6.0}
"""How many times as likely the expected choice is as another one."""
ANYWHERE = 0.05
"""Share of a uniform density, so that a wrong prior excludes nothing."""
BINS = 1_000
"""Parts of a range in which the density is taken as constant; a parameter with fewer values has one for each."""


def fading(trainings: float) -> float:
    """The power of the density after so many full trainings' worth of epochs, 0 to 1."""
    return min(1.0, BETA / max(trainings, 1e-9))


class PriorDensity:
    """The product of the densities of the parameters that have a prior; 1 where a parameter is not active."""

    def __init__(self, space: UnitCube, priors: Mapping[str, Prior]) -> None:
        """
        Args:
            priors: by the name of the parameter; names outside the space are left out.
        """
        given = {name: prior for name, prior in priors.items() if name in space.distributions}
        self.center = space.encode([{name: prior.center for name, prior in given.items()}])
        """The expected values, (1, parameters); NaN where there is no prior."""
        self._densities = {
            column: _density(axis, space.cells(name), self.center[0, column], given[name].confidence)
            for column, (name, axis) in enumerate(space.distributions.items())
            if name in given
        }

    def log(self, points: Array) -> Array:
        """The logarithm of the density at points of the unit cube, (n,); 0 is that of an even draw."""
        total: Array = np.zeros(len(points))
        for column, density in self._densities.items():
            active = ~np.isnan(points[:, column])
            bins = np.minimum((points[active, column] * len(density)).astype(np.intp), len(density) - 1)
            total[active] += np.log(density[bins])
        return total

    def place(self, points: Array) -> Array:
        """Evenly spread points (without NaN) moved so that they are spread by the density."""
        placed: Array = points.copy()
        for column, density in self._densities.items():
            below = np.append(0.0, np.cumsum(density)) / len(density)
            placed[:, column] = np.interp(points[:, column], below, np.linspace(0, 1, len(below)))
        return placed


def _density(axis: BaseDistribution, cells: int, center: float, confidence: str) -> Array:
    """The density in equal parts of [0, 1], (parts,), 1 on average: a truncated normal one, or the odds of choices."""
    count = cells if 0 < cells <= BINS or isinstance(axis, CategoricalDistribution) else BINS
    parts = (np.arange(count) + 0.5) / count
    if isinstance(axis, CategoricalDistribution):
        shape = np.where(np.isclose(parts, center), ODDS[confidence], 1.0)
    else:
        shape = np.exp(-0.5 * ((parts - center) / DEVIATION[confidence]) ** 2)
    return np.asarray((1 - ANYWHERE) * shape / shape.mean() + ANYWHERE)
