"""The time of one driver: true durations, and stamps that never go back."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Seconds since the epoch. The machine's wall clock is read once; from then on the monotonic clock counts.

    So the difference of two stamps is the time that has really passed, whatever becomes of the wall clock meanwhile,
    and stamps that the ledger stores can be subtracted and sorted. A correction of the wall clock, and the time that
    the machine was suspended, show in the stamps of the next process only.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._monotonic = monotonic
        self._epoch = wall() - monotonic()
        self.sleep = sleep
        """Wait for so many seconds."""

    def now(self) -> float:
        """The time now."""
        return self._epoch + self._monotonic()

    def not_before(self, moment: float) -> None:
        """Go on from `moment` if that is later: whoever stamped it had a clock that is ahead of this one."""
        self._epoch += max(0.0, moment - self.now())
