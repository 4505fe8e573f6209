"""Virtual time, and machines whose wall clocks are wrong or jump."""

from __future__ import annotations

from collections.abc import Callable

from hpo.clock import Clock

HOUR = 3600.0
EPOCH = 1_700_000_000.0


class Time:
    """What really passes."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.jumped = 0.0
        """How far somebody has set the wall clocks ahead meanwhile."""
        self.meanwhile: Callable[[], None] = lambda: None
        """What happens elsewhere while somebody waits."""

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.passed += seconds
        self.meanwhile()

    def wall(self, ahead: float = 0.0) -> float:
        """What a wall clock shows that was so far ahead."""
        return EPOCH + self.passed + self.jumped + ahead

    def clock(self, ahead: float = 0.0, booted: float = 5_000.0) -> Clock:
        """The clock of a driver on a machine whose wall clock is so far ahead."""
        return Clock(lambda: self.wall(ahead), lambda: booted + self.passed, self.wait)
