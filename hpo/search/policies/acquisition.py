"""How promising a point is, and the search for the most promising one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy.spatial.distance import cdist
from scipy.special import erfcx

from hpo.search.unit_cube import Array, UnitCube

CANDIDATES, NEIGHBOURS, LEADERS, ROUNDS = 400, 30, 5, 6


class Prediction(NamedTuple):
    """What a model expects of a configuration at its last epoch; larger is better."""

    mean: float
    deviation: float


Ends: TypeAlias = tuple[dict[int, Prediction], list[Prediction]]
"""What is expected at the last epoch of trials, by number, and of other configurations."""


def log_expected_improvement(mean: Array, deviation: Array, best: float | Array) -> Array:
    """Logarithm of E[max(f - best, 0)] for normal f, accurate also far below `best` (Ament et al., arXiv 2310.20708,
    equation 9)."""
    z = (mean - best) / deviation
    low = np.minimum(z, 0.0)
    mills = math.sqrt(math.pi / 2) * erfcx(-low / math.sqrt(2))
    far = -0.5 * low * low - 0.5 * math.log(2 * math.pi) + np.log(np.maximum(1 + low * mills, 1e-300))
    high = np.maximum(z, 0.0)
    density = np.exp(-0.5 * high * high) / math.sqrt(2 * math.pi)
    near = np.log(density + high * (1 - density * math.sqrt(math.pi / 2) * erfcx(high / math.sqrt(2))))
    return np.asarray(np.where(z < 0, far, near) + np.log(deviation))


def distance(a: Array, b: Array) -> Array:
    """Distance of each row of `a` to the nearest row of `b`; infinite if `b` has no rows."""
    return np.asarray(cdist(a, b).min(axis=1, initial=np.inf))


def maximise(value: Callable[[Array], Array], space: UnitCube, leaders: Array, rng: np.random.Generator) -> Array:
    """The point with the greatest value: random search over the cube and around `leaders`, then smaller and smaller
    steps around the best points.

    It needs no gradients, so the space may have categorical, integer and conditional parameters.
    """
    around = _filled(leaders, rng).repeat(NEIGHBOURS, axis=0)
    raw = np.vstack([rng.random((CANDIDATES, len(space))), _stepped(around, 0.15, rng)])
    points = space.settle(raw)
    values = value(points)
    for round_ in range(ROUNDS):
        top = np.argsort(-values, kind="stable")[:LEADERS]
        around = _filled(points[top], rng).repeat(NEIGHBOURS, axis=0)
        new = space.settle(_stepped(around, 0.12 * 0.6**round_, rng))
        points, values = np.vstack([points[top], new]), np.append(values[top], value(new))
    return np.asarray(points[np.argmax(values)])


def _stepped(points: Array, size: float, rng: np.random.Generator) -> Array:
    """Points with some coordinates moved by a normal step, reflected at the borders, or drawn anew."""
    count, dimensions = points.shape
    moved = rng.random(points.shape) < max(0.3, 1.5 / dimensions)
    moved[np.arange(count), rng.integers(dimensions, size=count)] = True
    stepped = np.abs(points + rng.normal(scale=size, size=points.shape))
    stepped = np.where(stepped > 1, 2 - stepped, stepped)
    anew = rng.random(points.shape) < 0.1
    return np.where(moved, np.where(anew, rng.random(points.shape), stepped), points)


def _filled(points: Array, rng: np.random.Generator) -> Array:
    """Points with random inactive coordinates, because a step may activate them."""
    return np.where(np.isnan(points), rng.random(points.shape), points)
