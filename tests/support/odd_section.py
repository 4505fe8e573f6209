"""A section of the GPU benchmark that ends in the ways in which a section can end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from reports.benchmarks.gpu.settings import Send, Settings


def run(settings: Settings, seconds: float, send: Send, *, how: str) -> None:
    send("first", {"how": how})
    print("about to", how)
    if how == "fail":
        raise ValueError("this went wrong")
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "hang":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        send("child", {"pid": child.pid})
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        time.sleep(600)
    send("last", {"how": how})
