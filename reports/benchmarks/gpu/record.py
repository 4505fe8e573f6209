"""The file with the results, complete and readable at every moment."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reports.benchmarks.gpu.processes import Ended
from trainers.files import replace_atomically

NOT_RUN, RUNNING, SKIPPED = "not run", "running", "skipped"
"""States of a section beside those of `Ended`."""


class Record:
    """Results by section, written after every change. What is missing says so from the beginning."""

    def __init__(self, path: Path, settings: dict[str, Any], machine: dict[str, Any], names: Iterable[str]) -> None:
        self._path = path
        self.content: dict[str, Any] = {"settings": settings, "machine": machine, "sections": {}}
        for name in names:
            self._section(name)

    def begin(self, name: str, seconds: float) -> None:
        """Note that a section begins and how many seconds it has."""
        self._section(name).update(state=RUNNING, allowed_seconds=round(seconds, 1))
        self.write()

    def add(self, name: str, key: str, result: dict[str, Any]) -> None:
        """Keep a result of a section."""
        self._section(name)["results"][key] = result
        self.write()

    def end(self, name: str, ended: Ended, seconds: float) -> None:
        """Note how a section ended and what it took."""
        self._section(name).update(state=ended.state, why=ended.why, lines=ended.lines, seconds=round(seconds, 1))
        self.write()

    def skip(self, name: str, why: str) -> None:
        """Note why a section does not run."""
        self._section(name).update(state=SKIPPED, why=why)
        self.write()

    def write(self) -> None:
        """Write the file."""
        text = json.dumps(self.content, indent=1) + "\n"
        replace_atomically(self._path, lambda path: path.write_text(text, encoding="utf-8"))

    def _section(self, name: str) -> dict[str, Any]:
        new = {"state": NOT_RUN, "why": "", "results": {}}
        section: dict[str, Any] = self.content["sections"].setdefault(name, new)
        return section
