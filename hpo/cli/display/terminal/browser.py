"""Opens a page in the browser of whoever runs the command."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path


def open_page(page: Path) -> bool:
    """Open a file in the browser that `BROWSER` names, else in the default one. Say where there is none."""
    try:
        if webbrowser.get().open(page.resolve().as_uri()):
            return True
        reason = "the browser did not start"
    except webbrowser.Error:
        reason = "this machine has no browser that can be started from here"
    print(f"Not opened: {reason}. Open the link above, or copy {page} to a machine with a browser.", file=sys.stderr)
    return False
