"""A whole study in two real terminals of 80 columns, typed by this program and kept as a page.

python -m tests.support.recorded_session reports/examples/session.md makes the page anew, in a few minutes.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from tests.support.terminal import Tmux

WIDTH, HEIGHT = 80, 30
PROMPT = "$ "
LONG_S = 1800.0
"""The longest wait for a command, seconds."""
TITLE = """\
# A session in two terminals

A first study from its beginning to the file with its best configuration, as two terminals of 80 columns showed it on
two CPU cores. `python -m tests.support.recorded_session reports/examples/session.md` types the commands and writes this
page.
"""


@dataclass(frozen=True)
class Step:
    """What a person does in one of the terminals, and how its end is seen."""

    terminal: int
    """1 or 2."""
    text: str
    """What the page says above the screen."""
    typed: tuple[str, ...] = ()
    """The command, and the answers to its questions; nothing: what was typed before goes on."""
    until: str | None = None
    """A regular expression for a screen that is kept while the command runs on; None: it ends."""


STEPS = (
    Step(
        1,
        "`hpo init` asks, and Enter takes the answer in brackets. Here three answers are typed.",
        ("hpo init", "shapes", "", "", "6", "", "first", ""),
    ),
    Step(
        1,
        "A dry run measures one training step, and says what the study will cost.",
        ("hpo run first.yaml --dry-run",),
    ),
    Step(
        1,
        "The start of the study. Until its first epoch is done, each trial says what its worker does.",
        ("hpo run first.yaml",),
        r"importing \d|reading \d|training \d",
    ),
    Step(1, "The view is painted in place. Some epochs later:", (), r" [2-6]/8 +\d+\.\d\d %"),
    Step(2, "In a second terminal: the studies of this folder, and the end of this one.", ("hpo ls",)),
    Step(2, "", ("hpo stop first",)),
    Step(1, "The first terminal then shows:"),
    Step(2, "", ("hpo ls",)),
    Step(1, "The study goes on where it was, and finishes.", ("hpo resume first",)),
    Step(
        1,
        "Was it luck? First what a confirmation would train, then the confirmation.",
        ("hpo confirm first --top 1 --seeds 3 --dry-run",),
    ),
    Step(1, "", ("hpo confirm first --top 1 --seeds 3",)),
    Step(1, "The result as a file, and what the list of studies says now.", ("hpo export first -o best.yaml",)),
    Step(1, "", ("hpo ls",)),
)


class Terminal:
    """A shell in a terminal. What it shows is read step by step."""

    def __init__(self, folder: Path) -> None:
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        shell = ["env", f"PS1={PROMPT}", f"HOME={folder}", f"PATH={path}", "HISTFILE=", "bash", "--norc", "--noprofile"]
        self._tmux = Tmux(WIDTH, HEIGHT, ["sh", "-c", 'cd "$0" && exec "$@"', str(folder), *shell])
        self._tmux.until(_waits, "a prompt")

    def close(self) -> None:
        """End the shell."""
        self._tmux.close()

    def _type(self, line: str, *, answered: bool) -> None:
        """Type a line; wait until something follows if it is answered at once."""
        if line:
            self._tmux.keys("-l", line)
        self._tmux.until(lambda text: text.endswith(line), "the echo")
        before = self._tmux.screen()
        self._tmux.keys("Enter")
        if answered:
            self._tmux.until(lambda text: text.split("\n") != before, "an answer")

    def do(self, step: Step) -> str:
        """Do a step; returns what is to be seen since the command was typed."""
        if step.typed:
            self._tmux.keys("C-l")
            self._tmux.until(lambda text: text.strip() == PROMPT.strip(), "an empty screen")
            self._tmux._run("clear-history")
        for place, line in enumerate(step.typed):
            if place:
                self._tmux.until(lambda text: text.endswith("]:"), "a question")
            self._type(line, answered=bool(place))
        if step.until is None:
            self._tmux.until(_waits, "the end of the command", LONG_S)
        else:
            self._tmux.until(lambda text: re.search(step.until or "", text), step.until, LONG_S)
        return self._tmux.history().rstrip().removesuffix(f"\n{PROMPT.strip()}").rstrip()


def _waits(text: str) -> bool:
    """Whether the shell waits for a command."""
    return text.rstrip().split("\n")[-1] == PROMPT.strip()


def record(folder: Path) -> Iterator[tuple[Step, str]]:
    """Every step with what is to be seen after it, while it is recorded."""
    with ExitStack() as stack:
        terminals = [stack.enter_context(closing(Terminal(folder))) for _ in range(2)]
        for step in STEPS:
            yield step, terminals[step.terminal - 1].do(step)


def page(file: Path) -> None:
    """Record the session and write the page."""
    parts, began = [TITLE], time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for step, seen in record(Path(folder)):
            print(f"{time.monotonic() - began:4.0f} s  {step.terminal}  {' '.join(step.typed[:1])}", flush=True)
            parts += [f"{step.text}\n"] if step.text else []
            parts.append(f"Terminal {step.terminal}:\n\n```text\n{seen}\n```\n")
    file.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    page(Path(sys.argv[1]))
