"""A process that outlives its driver, and tells the receivers if the driver is killed.

It waits for the driver's farewell on a pipe that no other process writes to. The kernel closes the pipe when the driver
dies, however that happens. Until then the process is a shell of one megabyte.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress

from hpo.home import Home, confirmed_study
from hpo.spec.notify import Notify

WAIT = """trap "" HUP INT TERM; read -r farewell || exec "$0" -m hpo.driver.notify.last_words "$@" """
"""A terminal and a batch system send signals to all processes of a study. What they mean is the driver's to decide."""
END_S = 2.0
"""Longest wait for the process to end, in seconds."""


class Survivor:
    """Watches over this process until `close`, if the specification asks for news of a failure."""

    def __init__(self, notify: Notify, home: Home, name: str, unmarked: str = "") -> None:
        """
        Args:
            name: of the study or of its confirmation.
            unmarked: variable of the environment by which the processes of a dead driver are found and ended.
        """
        self._process: subprocess.Popen[bytes] | None = None
        if (notify.command or notify.url) and "failure" in notify.on:
            environment = {key: value for key, value in os.environ.items() if key != unmarked}
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", WAIT, sys.executable, str(home.path), confirmed_study(name) or name],
                env=environment | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def close(self) -> None:
        """Say farewell: this process tells itself how it ends."""
        if self._process is None:
            return
        with suppress(BrokenPipeError, subprocess.TimeoutExpired):  # somebody has killed it
            self._process.communicate(b"\n", timeout=END_S)
        self._process = None
