"""Paint one renderable at the end of a terminal."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.segment import Segment, Segments
from rich.text import Text

LEAST_INTERVAL_S = 0.25
"""Least time between two frames."""
MOST_SHARE = 0.1
"""Share of the time that frames may take: they and the scheduling of the study share one interpreter."""
CLOCK_INTERVAL_S = 1.0
"""Time between two frames when nothing happens, for the clock and for a resized terminal."""


def interactive(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `stream` is a terminal that can be painted on, outside of CI."""
    dumb = environment.get("TERM", "") in ("", "dumb", "unknown")
    continuous_integration = environment.get("CI", "false").lower() not in ("", "0", "false")
    return stream.isatty() and not dumb and not continuous_integration


class Painter:
    """Paints what `source` returns in a thread of its own: soon after `paint` is called, and once a second.

    So neither the cost of a picture nor a terminal that takes no output holds up the caller. An exception of `source`
    or of the rendering is kept in `failure`, and nothing is painted after it. The caller must check `failure`: the
    thread cannot report it, and the exception must not end the study.

    The cursor stays visible and the normal screen is used, so that a killed process leaves a usable terminal.
    """

    def __init__(self, source: Callable[[], RenderableType], stream: TextIO) -> None:
        """
        Args:
            source: called by one thread at a time.
        """
        self.failure: Exception | None = None
        self._source = source
        self._stream = stream
        self._console = Console(file=stream, force_terminal=True)
        self._size = self._fit()
        self._said: deque[str] = deque()
        """Lines that are not printed yet."""
        self._wanted = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="screen", daemon=True)
        self._live = Live(
            console=self._console,
            get_renderable=self._frame,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def __enter__(self) -> Painter:
        self._live.start()
        self._console.show_cursor(True)
        self._live.refresh()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._wanted.set()
        self._thread.join()
        self._print_said()
        self._live.stop()  # paints a last time

    def paint(self) -> None:
        """Have a new frame painted as soon as the last one is old enough; returns at once."""
        self._wanted.set()

    def say(self, text: str) -> None:
        """Have a line printed that stays, above the painted frame; returns at once."""
        self._said.append(text)
        self._wanted.set()

    def _work(self) -> None:
        pause = LEAST_INTERVAL_S
        while not self._ended.wait(pause) and self.failure is None:
            self._wanted.wait(CLOCK_INTERVAL_S - LEAST_INTERVAL_S)
            self._wanted.clear()
            began = time.monotonic()
            try:
                self._print_said()
                self._live.refresh()
            except Exception as error:  # noqa: BLE001 - the terminal has gone; kept for the caller
                self.failure = error
            pause = max(LEAST_INTERVAL_S, (time.monotonic() - began) / MOST_SHARE)

    def _print_said(self) -> None:
        while self._said:
            self._console.print(Text(self._said.popleft()))

    def _frame(self) -> RenderableType:
        if self.failure is not None:
            return Text("")
        try:
            size = self._fit()
            if size[0] != self._size[0]:
                # The terminal has wrapped or joined the painted lines, so they cannot be painted over.
                self._stream.write("\x1b[2J\x1b[H")
            self._size = size
            options = self._console.options.update(highlight=False)
            lines = self._console.render_lines(self._source(), options, pad=False, new_lines=True)
            # The cursor rests on an empty line, where the terminal's echo of ^C breaks no full line.
            return Segments([*(segment for line in lines for segment in line), Segment(" ")])
        except Exception as error:  # noqa: BLE001 - kept for the caller
            self.failure = error
            return Text("")

    def _fit(self) -> tuple[int, int]:
        """Take the size of the terminal that is painted on; stdin and stdout may be other terminals."""
        columns, rows = os.get_terminal_size(self._stream.fileno())
        # Some terminals report 0 until they are ready.
        self._console.size = size = (columns or 80, rows or 24)
        return size
