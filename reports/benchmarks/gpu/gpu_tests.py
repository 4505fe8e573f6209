"""The tests that need a GPU, with pytest alone; each result is kept as it comes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reports.benchmarks.gpu.settings import Send, Settings

REPOSITORY = Path(__file__).resolve().parents[3]
OPTIONS = (
    *("-o", "addopts=", "-o", "faulthandler_timeout=60", "-p", "no:cacheprovider"),
    *("--tb=short", "--continue-on-collection-errors", "-m", "gpu"),
)
"""The project's own options need plugins, and settings of plugins, that a machine may lack."""
RUNNING = "running"


def run(settings: Settings, seconds: float, send: Send, *, files: Sequence[str], without: str | None = None) -> None:
    """Run the tests of `files`, which are relative to the repository, except for those of the file `without`.

    Raises:
        RuntimeError: the tests are not there, or cannot be collected.
    """
    import pytest

    if not (REPOSITORY / "tests").is_dir():
        raise RuntimeError("the tests are not installed: run the command in a checkout of the repository")
    os.chdir(REPOSITORY)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    ignored = [f"--ignore={without}"] if without else []
    code = pytest.main([*OPTIONS, *ignored, *files], plugins=[_Results(send)])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"pytest ended with {pytest.ExitCode(code).name}")


class _Results:
    """A plugin of pytest that sends each result."""

    def __init__(self, send: Send) -> None:
        self._send = send

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins. Should it never end, its name says which it was."""
        self._send(nodeid, {"outcome": RUNNING})

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A test was set up, has run, or was taken down; only the second counts, and what went wrong."""
        if report.when == "call" or report.outcome != "passed":
            result = {"outcome": report.outcome, "seconds": round(report.duration, 2)}
            self._send(report.nodeid, {**result, **_reason(report)})

    def pytest_collectreport(self, report: Any) -> None:
        """A file was read."""
        if report.outcome != "passed":
            self._send(report.nodeid, {"outcome": report.outcome, **_reason(report)})


def _reason(report: Any) -> dict[str, str]:
    if report.outcome == "skipped":
        return {"why": str(report.longrepr[2])}
    if report.outcome == "failed":
        return {"why": "\n".join(str(report.longreprtext).strip().splitlines()[-8:])}
    return {}
