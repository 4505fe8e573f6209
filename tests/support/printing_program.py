"""Print as a driver and its libraries do, far more than a pipe holds: `python -m tests.support.printing_program HOME`.

The file HOME/through exists as soon as everything is printed. The exit code is that of `hpo run`.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path

from hpo.cli import app
from hpo.cli.display.live import console_view
from hpo.cli.display.terminal import output
from hpo.driver.events import Event
from hpo.driver.signals import SignalGuard
from hpo.home import Home
from tests.support.sample_records import study, trial

EVENTS = 3_000


def main() -> None:
    """Show a study without anything that could wait, and leave in order."""
    output.PATIENCE_S = 0.5
    home = Home(Path(sys.argv[1])).create()
    warnings.simplefilter("always")
    with console_view(home) as view, SignalGuard("Continue with: hpo resume it") as guard:
        home.study(study().name).mkdir(parents=True)
        view.begin(study())
        guard.watch(lambda reason: None)
        for number in range(EVENTS):
            view(Event("started", trial(number, 0)))
            os.write(2, b"a library writes past Python\n")
            warnings.warn(f"warning {number}", stacklevel=1)
            print(f"a library prints {number}")
        os.kill(os.getpid(), signal.SIGTERM)
        (home.path / "through").touch()
    print("the closing text")


if __name__ == "__main__":
    app._run = main  # type: ignore[attr-defined]
    app.main()
