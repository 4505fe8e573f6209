"""Show a live view of made-up events in a terminal: `python -m tests.support.live_view_program HOW FOLDER`.

HOW is one of: `noise` (libraries print past Python), `broken` (rendering fails), `interrupt` (a driver that ends on the
first signal and leaves on the second), `kill` (waits to be killed).
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

from hpo.cli.display import live
from hpo.cli.display.live import LiveView
from hpo.driver.events import Event
from hpo.driver.signals import SignalGuard
from hpo.home import Home
from tests.support.sample_records import busy


def broken(*arguments: object, **options: object) -> NoReturn:
    """Raise, like a mistake in the rendering."""
    raise RuntimeError("a mistake in the rendering")


def main(how: str, folder: str) -> None:
    """Show the view until it is ended. FOLDER/ready exists as soon as the view is shown."""
    now = time.time()
    study = dataclasses.replace(busy(64), sessions=((now - 481, now),))
    ready = Path(folder) / "ready"
    with SignalGuard("Continue with: hpo resume cifar10_b0") as guard, LiveView(Home.at(Path(folder))) as view:
        view.begin(study)
        stopped: list[str] = []
        guard.watch(stopped.append)
        if how == "broken":
            live.Screen = broken  # type: ignore[assignment,misc]
            time.sleep(0.3)  # so that the next event is painted
        for trial in study.trials[15:]:
            if trial.epochs:
                view(Event("epoch", trial))
        if how == "noise":
            os.write(2, b"(raylet) written past Python\nand more of it\n")
            print("a library's print")
            view(Event("notice", text="warning: a notice that stays"))
        ready.write_text("view is up")
        deadline = time.monotonic() + (60 if how in ("interrupt", "kill") else 1.5)
        while time.monotonic() < deadline and not (how == "interrupt" and stopped):
            time.sleep(0.02)
        if stopped:
            (Path(folder) / "stopping").write_text(stopped[0])
            time.sleep(20 if (Path(folder) / "twice").exists() else 0)
    print("the end")


if __name__ == "__main__":
    main(*sys.argv[1:])
