"""Exact Gaussian-process regression: a Matern 5/2 kernel with one length scale per parameter, fitted by MAP.

Formulas after Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006): prediction is algorithm
2.1, the marginal likelihood and its gradient equations 5.8 and 5.9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack
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
        squared = np.asarray(a @ (-2.0 * b.T))
        squared += (a * a).sum(1)[:, None]
        squared += (b * b).sum(1)[None, :]
        correlation, _ = _matern(np.maximum(squared, 0.0, out=squared))
        correlation *= self.scale
        return correlation

    def pairs(self, a: Array, b: Array) -> Array:
        """Covariance between each row of `a` and the same row of `b`, (n,)."""
        squared = (((a - b) / self.lengths[self.owners]) ** 2).sum(1)
        return self.scale * _matern(squared)[0]


class Posterior:
    """A Gaussian process with prior mean zero, given observations `y` (n,) at features `x` (n, features).

    The last `exact` observations have no noise: they are believed as they are.
    """

    def __init__(self, kernel: Kernel, x: Array, y: Array, exact: int = 0) -> None:
        self.kernel = kernel
        self._x = x
        noise = np.full(len(x), kernel.noise)
        noise[len(x) - exact :] = MIN_NOISE
        covariance = kernel(x, x)
        covariance[np.diag_indices(len(x))] += noise
        self._factor = _cholesky(covariance)
        self._weights = _solve(self._factor, y)

    def mean(self, x: Array) -> Array:
        """Mean at (m, features)."""
        return np.asarray(self.kernel(x, self._x) @ self._weights)

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the noise-free function at (m, features)."""
        cross = self.kernel(x, self._x)
        mean = cross @ self._weights
        explained = blas.dtrsm(1.0, self._factor, cross.T, lower=True, overwrite_b=True)
        variance = self.kernel.scale - np.einsum("ij,ij->j", explained, explained)
        return mean, np.sqrt(np.maximum(variance, 1e-12))

    def covariances(self, a: Array, b: Array) -> Array:
        """Covariance of the noise-free function between each row of `a` and the same row of `b`, (n,)."""
        both = self.kernel(np.vstack([a, b]), self._x)
        explained = blas.dtrsm(1.0, self._factor, both.T, lower=True, overwrite_b=True)
        before = self.kernel.pairs(a, b)
        return np.asarray(before - np.einsum("ij,ij->j", explained[:, : len(a)], explained[:, len(a) :]))


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
    gaps = gaps.reshape(len(precision), -1)
    correlation, slope = (values.reshape(len(y), -1) for values in _matern(precision @ gaps))
    covariance = scale * correlation
    covariance[np.diag_indices(len(y))] += noise + MIN_NOISE
    factor = _cholesky(covariance)
    weights = _solve(factor, y)
    pull = np.outer(weights, weights) - _inverse(factor)
    away = (theta - centre) / width
    gradient = np.append(
        precision * (gaps @ (pull * slope).ravel()) * scale,
        [-0.5 * np.vdot(pull, correlation) * scale, -0.5 * np.trace(pull) * noise],
    )
    value = 0.5 * y @ weights + np.log(np.diag(factor)).sum() + 0.5 * away @ away
    return float(value), gradient + away / width


def _matern(squared: Array) -> tuple[Array, Array]:
    """Matern 5/2 correlation of squared scaled distances, which are overwritten, and its derivative by them."""
    r = np.sqrt(5 * squared)
    slope = np.exp(-r)
    squared *= 5 / 3
    squared *= slope
    r += 1
    slope *= r
    squared += slope
    slope *= -5 / 6
    return squared, slope


# LAPACK itself: the checks of `scipy.linalg` take longer than the work on matrices as small as these.


def _cholesky(matrix: Array) -> Array:
    """The lower factor of a symmetric matrix, which is overwritten.

    Raises:
        numpy.linalg.LinAlgError: the matrix is not positive definite.
    """
    factor, problem = lapack.dpotrf(matrix.T, lower=True, clean=True, overwrite_a=True)
    if problem:
        raise np.linalg.LinAlgError(f"the leading minor of order {problem} is not positive definite")
    return np.asarray(factor)


def _solve(factor: Array, y: Array) -> Array:
    """The solution of a linear system, from the lower factor of its matrix."""
    return np.asarray(lapack.dpotrs(factor, y, lower=True)[0])


def _inverse(factor: Array) -> Array:
    """The inverse of a matrix, from its lower factor."""
    half: Array = np.asarray(lapack.dpotri(factor, lower=True)[0])
    inverse: Array = half + half.T
    inverse[np.diag_indices(len(half))] /= 2
    return inverse
