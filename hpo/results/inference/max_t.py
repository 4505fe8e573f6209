"""Critical values of several t statistics at once: the error of all comparisons together is at most `alpha`.

Sources: Dunnett, "A multiple comparison procedure for comparing several treatments with a control" (JASA 50, 1955);
Hothorn, Bretz and Westfall, "Simultaneous inference in general parametric models" (Biometrical Journal 50, 2008).
"""

from __future__ import annotations

import bisect
import functools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ALPHA = 0.05
"""Chance that any of the statements about one confirmation is wrong; intervals cover 1 - ALPHA together."""
FEWEST = 3
"""Fewer seeds give no interval: two know the variance between them to a factor of thirty only."""
POINTS = 500
"""Points of the numerical integration per statistic: the critical values are right to about one in five hundred."""
STEPS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 60, 120)
"""Degrees of freedom are rounded down to one of these, so that equal designs are computed once."""


def critical_value(correlation: Array, freedom: float, alpha: float = ALPHA, *, two_sided: bool = True) -> float:
    """The c with P(max |T| > c) = `alpha`, or P(max T > c) = `alpha` if not `two_sided`.

    T is multivariate t.

    Args:
        correlation: of the statistics, (m, m); m may be 1.
        freedom: degrees of freedom, at least 1.
        alpha: 0 to 1.
    """
    rounded = tuple(tuple(float(value) for value in row) for row in np.round(correlation, 2))
    step = STEPS[max(0, bisect.bisect_right(STEPS, freedom) - 1)]
    return _critical_value(rounded, step, alpha, two_sided)


@functools.lru_cache(maxsize=4096)
def _critical_value(correlation: tuple[tuple[float, ...], ...], freedom: int, alpha: float, two_sided: bool) -> float:
    from scipy.optimize import brentq  # takes half a second, and only a confirmation needs it
    from scipy.special import stdtrit
    from scipy.stats import multivariate_t

    count = len(correlation)
    tail = alpha / 2 if two_sided else alpha
    least, most = (-float(stdtrit(freedom, share)) for share in (tail, tail / count))  # one statistic; Bonferroni
    if count == 1:
        return least

    def excess(c: float) -> float:
        lower = np.full(count, -c) if two_sided else None
        inside = multivariate_t.cdf(
            np.full(count, c), shape=correlation, df=freedom, lower_limit=lower, maxpts=POINTS * count, random_state=0
        )
        return float(inside) - (1 - alpha)

    if excess(least) >= 0 or excess(most) <= 0:  # numerical noise: the statistics are almost one, or almost unrelated
        return least if excess(least) >= 0 else most
    return float(brentq(excess, least, most, xtol=1e-3))
