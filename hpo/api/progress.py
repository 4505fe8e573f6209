"""What a program shows of a study that another process drives: plain lines, or one picture in a notebook."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import Any, Protocol

from hpo.api.messages import Line

LINES = 10
"""The newest lines in the picture of a notebook."""
PAUSE_S = 0.5
"""Shortest time between two pictures, in seconds."""


class Progress(Protocol):
    """Shows lines. None means that time has passed without one."""

    def show(self, line: Line | None) -> None:
        """Show a line, now or soon."""

    def close(self) -> None:
        """Show what is not shown yet: the study is over."""


def suitable(wanted: bool) -> Progress:
    """A picture in a notebook, else plain lines on the standard error stream; nothing unless it is `wanted`."""
    if not wanted:
        return Silence()
    return Picture() if _in_notebook() else Lines()


def _in_notebook() -> bool:
    """Whether IPython is loaded and talks to a notebook; its terminal shows plain lines."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


class Silence:
    """Shows nothing."""

    def show(self, line: Line | None) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Lines:
    """Prints each line."""

    def show(self, line: Line | None) -> None:
        """Print the line at once."""
        if line is not None:
            print(line.text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing is left to print."""


class Picture:
    """Keeps one output of a notebook's cell up to date: the headline, and the newest lines below it."""

    def __init__(self) -> None:
        self._headline: str | None = None
        self._lines: deque[str] = deque(maxlen=LINES)
        self._painted = -PAUSE_S
        self._stale = False
        self._handle: Any = None

    def show(self, line: Line | None) -> None:
        """Take the line into the picture; paint, unless that was done just now."""
        if line is not None:
            self._headline = line.headline or self._headline
            self._lines.append(line.text)
            self._stale = True
        if self._stale and time.monotonic() - self._painted >= PAUSE_S:
            self._paint()

    def close(self) -> None:
        """Paint the last picture."""
        if self._stale:
            self._paint()

    def _paint(self) -> None:
        from IPython import display

        picture = {"text/plain": "\n".join([*([self._headline] if self._headline else []), *self._lines])}
        if self._handle is None:
            self._handle = display.display(picture, raw=True, display_id=True)
        else:
            self._handle.update(picture, raw=True)
        self._painted, self._stale = time.monotonic(), False
