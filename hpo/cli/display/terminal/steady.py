"""An estimate that eases into news: a trial that unexpectedly trains on may double the time left from one look to the
next."""

from __future__ import annotations

import math
import time

EASE = 0.1
"""How slowly the shown estimate follows: after this share of the time left, 63 % of the way."""
AT_ONCE, LEAST_S = 0.3, 10.0
"""Greatest step between two looks, as a share of the estimate, and in seconds for a short one."""


class Steady:
    """The time left as it is shown. Between two looks it falls by the time between them, and moves towards the newest
    estimate."""

    def __init__(self) -> None:
        self._shown: float | None = None
        self._at = 0.0

    def show(self, left: float | None, now: float | None = None) -> float | None:
        """What to show for an estimate, both in seconds.

        Args:
            now: by any clock that only runs forward; None: of this process.
        """
        now = time.monotonic() if now is None else now
        if left is not None and self._shown is not None:
            due = max(0.0, self._shown - (now - self._at))
            share = 1 - math.exp(-(now - self._at) / max(1.0, EASE * min(due, left)))
            most = max(AT_ONCE * due, LEAST_S)
            left = due + min(most, max(-most, share * (left - due)))
        self._shown, self._at = left, now
        return left
