"""From the normal scores that the model predicts back to values."""

from __future__ import annotations

import numpy as np

from hpo.search.policies.gp import normal_scores
from hpo.search.unit_cube import Array


class Scale:
    """The values of normal scores, by interpolation among the ranks that were observed."""

    def __init__(self, values: Array) -> None:
        """
        Args:
            values: that the scores were made of, (n,); minus infinity for failures.
        """
        known = np.isfinite(values)
        self._scores, places = np.unique(normal_scores(values)[known], return_index=True)
        self._values = values[known][places]

    def value(self, score: float) -> float | None:
        """The value that has this score; None outside of what was observed, where ranks say nothing of values."""
        if not len(self._scores) or not self._scores[0] <= score <= self._scores[-1]:
            return None
        return float(np.interp(score, self._scores, self._values))
