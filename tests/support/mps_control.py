"""A stand-in for `nvidia-cuda-mps-control`: a daemon that waits, and a journal of what was asked of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

PROGRAM = """#!/bin/sh
# The daemon is a sleep; its number is in the file that the real one keeps its socket at.
control="$CUDA_MPS_PIPE_DIRECTORY/control"
if [ "$1" = -d ]; then
    [ -n "$MPS_BROKEN" ] && {{ echo "no GPU for MPS" >&2; exit 1; }}
    sleep 600 &
    echo $! > "$control"
    echo "start $CUDA_MPS_PIPE_DIRECTORY $CUDA_MPS_LOG_DIRECTORY ${{HPO_DRIVER:-unmarked}}" >> {journal}
    exit 0
fi
read -r typed
[ -e "$control" ] || {{ echo "no daemon" >&2; exit 1; }}
[ "$typed" = quit ] && kill "$(cat "$control")" && rm "$control" && echo quit >> {journal}
"""


def install(folder: Path) -> Path:
    """Put it into a folder, for PATH; returns its journal."""
    journal = folder / "journal"
    program = folder / "nvidia-cuda-mps-control"
    program.write_text(PROGRAM.format(journal=journal))
    program.chmod(0o755)
    return journal


def path_with(folder: Path) -> str:
    """A PATH on which it comes first."""
    return os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
