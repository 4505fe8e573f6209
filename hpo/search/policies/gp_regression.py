"""Exact Gaussian-process regression: a Matern 5/2 kernel with one length scale per parameter, fitted by MAP.

Formulas after Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006): prediction is algorithm
2.1, the marginal likelihood and its gradient equations 5.8 and 5.9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]

LENGTH_PRIOR = (0.0, 1.0)
SCALE_PRIOR = (0.0, 1.0)
NOISE_PRIOR = (-3.0, 1.5)
"""Mean and deviation of the normal priors of the logarithms of length, scale and noise. They suit every problem,
because features span one unit and observations are normal scores."""
MIN_NOISE = 1e-4
"""Variance added to every observation, so that the covariance is positive definite for all kernels that `fit` tries."""
ITERATIONS = 40


@dataclass(frozen=True)
class Kernel:
    """Hyperparameters. Lengths are in units of the features, scale and noise are variances."""

    lengths: Array
    """One per parameter."""
    scale: float
    noise: float
    owners: NDArray[np.intp]
    """Which parameter each feature belongs to."""

    def __call__(self, a: Array, b: Array) -> Array:
        """Covariance of the noise-free function between (n, features) and (m, features): (n, m)."""
        a, b = a / self.lengths[self.owners], b / self.lengths[self.owners]
        squared = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * a @ b.T
        return np.asarray(self.scale * _matern(np.maximum(squared, 0.0))[0])


class Posterior:
    """A Gaussian process with prior mean zero, given observations `y` (n,) at features `x` (n, features).

    The last `exact` observations have no noise: they are believed as they are.
    """

    def __init__(self, kernel: Kernel, x: Array, y: Array, exact: int = 0) -> None:
        self.kernel = kernel
        self._x = x
        noise = np.full(len(x), kernel.noise)
        noise[len(x) - exact :] = MIN_NOISE
        self._factor = cholesky(kernel(x, x) + np.diag(noise), lower=True)
        self._weights = cho_solve((self._factor, True), y)

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the noise-free function at (m, features)."""
        cross = self.kernel(self._x, x)
        explained = solve_triangular(self._factor, cross, lower=True, check_finite=False)
        variance = self.kernel.scale - (explained * explained).sum(0)
        return cross.T @ self._weights, np.sqrt(np.maximum(variance, 1e-12))


def fit(x: Array, y: Array, owners: NDArray[np.intp]) -> Kernel:
    """The kernel with the greatest posterior density, for observations `y` with mean about 0 and variance about 1."""
    count = int(owners.max()) + 1
    gaps = np.zeros((count, len(x), len(x)))  # squared distances, parameter by parameter
    for feature, owner in enumerate(owners):
        gaps[owner] += (x[:, None, feature] - x[None, :, feature]) ** 2
    centre, width = np.array([LENGTH_PRIOR] * count + [SCALE_PRIOR, NOISE_PRIOR]).T
    result = minimize(
        _loss,
        centre,
        args=(gaps, y, centre, width),
        jac=True,
        method="L-BFGS-B",
        bounds=[*[(-5.0, 5.0)] * count, (-4.0, 4.0), (-9.0, 2.0)],
        options={"maxiter": ITERATIONS},
    )
    *lengths, scale, noise = np.exp(result.x)
    return Kernel(np.array(lengths), float(scale), float(noise) + MIN_NOISE, owners)


def _loss(theta: Array, gaps: Array, y: Array, centre: Array, width: Array) -> tuple[float, Array]:
    """Negative log posterior density of (log lengths, log scale, log noise), and its gradient."""
    precision, scale, noise = np.exp(-2 * theta[:-2]), math.exp(theta[-2]), math.exp(theta[-1])
    correlation, slope = _matern(np.tensordot(precision, gaps, 1))
    identity = np.eye(len(y))
    factor = (cholesky(scale * correlation + (noise + MIN_NOISE) * identity, lower=True), True)
    weights = cho_solve(factor, y)
    pull = np.outer(weights, weights) - cho_solve(factor, identity)
    away = (theta - centre) / width
    gradient = np.append(
        precision * np.tensordot(gaps, pull * slope * scale, 2),
        [-0.5 * (pull * correlation).sum() * scale, -0.5 * np.trace(pull) * noise],
    )
    value = 0.5 * y @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
    return float(value), gradient + away / width


def _matern(squared: Array) -> tuple[Array, Array]:
    """Matern 5/2 correlation of squared scaled distances, and its derivative by them."""
    r = np.sqrt(5 * squared)
    decay = np.exp(-r)
    return (1 + r + r * r / 3) * decay, -5 / 6 * (1 + r) * decay
