"""A picture of a screen: tmux capture-pane -p -e | python -m tests.browser.terminal_picture TITLE FILE.png"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tests.browser.chromium import chromium, missing


def svg(screen: str, title: str) -> str:
    """The screen, with its ANSI colours, as an SVG that is as wide as its longest line."""
    text = Text.from_ansi(screen.rstrip())
    width = max(len(line.plain.rstrip()) for line in text.split())
    console = Console(record=True, width=width + 1, file=io.StringIO(), force_terminal=True)
    console.print(text, soft_wrap=True)
    return console.export_svg(title=title)


def picture(window: Any, drawing: str, file: Path) -> None:
    """Write a PNG of an SVG."""
    from selenium.webdriver.common.by import By

    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(f"<body style='margin:0;width:1400px'>{drawing}</body>", encoding="utf-8")
        window.set_window_size(1500, 1400)
        window.get(page.as_uri())
        file.write_bytes(window.find_element(By.TAG_NAME, "svg").screenshot_as_png)


if __name__ == "__main__":
    if lacking := missing():
        raise SystemExit(lacking)
    with chromium() as window:
        picture(window, svg(sys.stdin.read(), sys.argv[1]), Path(sys.argv[2]))
