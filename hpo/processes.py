"""Processes of this machine: which one it was, and what this one may use.

A process's number alone may belong to another one by now, or to one on another machine.
"""

from __future__ import annotations

import os
from pathlib import Path


def fingerprint(pid: int) -> str:
    """Tells a running process of this machine from all others: the start of the system, the container, its own start.

    Empty if there is no such process, or where the system does not tell.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        started = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
        return f"{boot} {os.readlink('/proc/self/ns/pid')} {started}"
    except OSError:
        return ""


def usable_cpus() -> int:
    """How many CPUs this process may use: those that SLURM or `taskset` binds it to, else all of the machine."""
    bound = getattr(os, "sched_getaffinity", None)  # Linux has it
    return len(bound(0)) if bound else os.cpu_count() or 1


def ended(pid: int, known: str) -> bool:
    """Whether a process is certain to have ended.

    Args:
        known: its fingerprint while it ran; of a process on another machine, and without one, nothing is certain.
    """
    if not known or _machine(known) != _machine(fingerprint(os.getpid())):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another account's, perhaps a later one of the same number
        pass
    return fingerprint(pid) not in ("", known)


def _machine(print_: str) -> str:
    return print_.rpartition(" ")[0]
