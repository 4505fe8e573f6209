"""A process that answers a Python program as one that drives a study does, without a study.

The overrides of the request say what it does after the study has begun: `wait` for a signal, `fail`, `leave` at once
with words and an exit code, or be killed (`die`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from hpo.api.messages import Begun, Done, Failed, Line
from hpo.errors import InfrastructureError, Interrupted

received: list[int] = []
connection: Connection[Any, Any] = Connection(int(sys.argv[1]))


def handle(number: int, frame: object) -> None:
    """The first signal stops in order, the second at once."""
    if received:
        os._exit(128 + number)
    received.append(number)


def wait() -> None:
    """Until the first signal. No event: a handler that sets one while the thread waits for it can block for ever."""
    while not received:
        time.sleep(0.05)


def lifeline() -> None:
    """The program is gone: leave a note of it."""
    try:
        connection.recv()
    except (EOFError, OSError):
        with open("left_alone", "w"):
            os._exit(0)


signal.signal(signal.SIGINT, handle)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])
request = connection.recv()
threading.Thread(target=lifeline, daemon=True).start()
what = request.overrides[0]
connection.send(Begun("pretended"))
connection.send(Line("a line", "a headline"))
print("what a library prints", flush=True)
if what == "wait":
    wait()
    connection.send(Failed(Interrupted(signal.SIGINT)))
elif what == "stubborn":
    wait()
    connection.send(Line("stopping", "a headline"))  # two signals at once would be one
    while True:
        time.sleep(1.0)
elif what == "fail":
    error = InfrastructureError("the disk is full")
    error.advice = "free some space"
    connection.send(Failed(error))
elif what == "leave":
    os.write(2, b"error: Ray died: postgresql://me:s3cret@host/db\n")
    os._exit(4)
elif what == "die":
    os.kill(os.getpid(), signal.SIGKILL)
else:
    connection.send(Done("pretended"))
