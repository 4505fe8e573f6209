"""A real terminal (tmux), and pictures of its screen.

python -m tests.support.terminal OUTDIR WORDS COMMAND... runs a command in a terminal of 200 columns until WORDS are on
the screen, and writes the screen to OUTDIR as text and as SVG. It does the same at 80 columns and then ends the
command. To show a study that must not be ended, use the command `hpo status NAME --watch`.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from tests.conftest import REPOSITORY

SIZES = ((200, 50), (80, 24))
SETTLED_S = 3.0
"""Seconds after which a resized view has been painted."""


class Tmux:
    """One detached session in a server of its own."""

    def __init__(self, width: int, height: int, command: list[str], **environment: str) -> None:
        self._name = f"hpo-{uuid.uuid4().hex[:8]}"
        shown = " ".join(map(shlex.quote, command))
        settings = {"PYTHONPATH": str(REPOSITORY), "CI": "", **environment}
        prefix = " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
        script = f"{prefix} {shown}; echo status=$?; stty -a | tr ' ;' '\\n\\n' | grep -x -e -*echo; exec sleep 600"
        self._run("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), script)

    def _run(self, *arguments: str) -> str:
        command = ["tmux", "-L", self._name, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY).stdout

    def screen(self, *options: str) -> list[str]:
        """The visible lines, without trailing blanks."""
        return [line.rstrip() for line in self._run("capture-pane", "-p", *options).rstrip("\n").split("\n")]

    def history(self) -> str:
        """Everything, scrolled-off lines included."""
        return "\n".join(self.screen("-S", "-"))

    def keys(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._run("resize-window", "-x", str(width), "-y", str(height))

    def until(self, condition: Callable[[str], object], what: str, limit_s: float = 60) -> str:
        """Wait until `condition` is true for the text of the screen; returns that text."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            text = "\n".join(self.screen())
            if condition(text):
                return text
            time.sleep(0.1)
        raise AssertionError(f"{what} did not happen within {limit_s:.0f} s; the screen:\n{text}")

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self._name, "kill-server"], capture_output=True, check=False)


def svg(lines: list[str], width: int, title: str) -> str:
    """A picture of lines with the colours that tmux gives."""
    from rich.console import Console
    from rich.text import Text

    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=width, file=nowhere, force_terminal=True, color_system="truecolor")
        for line in lines:
            console.print(Text.from_ansi(line), soft_wrap=True)
        return console.export_svg(title=title)


def capture(folder: Path, words: str, command: list[str], limit_s: float = 600) -> list[Path]:
    """Write `terminal-WIDTH.txt` and `.svg` for both widths.

    Raises:
        AssertionError: the words did not appear in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    session = Tmux(*SIZES[0], command)
    try:
        session.until(lambda text: words in text, repr(words), limit_s)
        for width, height in SIZES:
            session.resize(width, height)
            time.sleep(SETTLED_S)
            for ending, content in (
                ("txt", "\n".join(session.screen()) + "\n"),
                ("svg", svg(session.screen("-e"), width, shlex.join(command))),
            ):
                path = folder / f"terminal-{width}.{ending}"
                path.write_text(content, encoding="utf-8")
                written.append(path)
    finally:
        session.close()
    return written


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    print(*capture(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]), sep="\n")
