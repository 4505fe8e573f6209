"""The page of the recorded session shows what its program types, in order, and nothing that no terminal showed."""

from __future__ import annotations

import re

from tests.conftest import REPOSITORY
from tests.support.markdown import blocks
from tests.support.recorded_session import PROMPT, STEPS, TITLE, WIDTH

PAGE = REPOSITORY / "reports" / "examples" / "session.md"


def test_the_page_is_what_the_program_writes() -> None:
    """Another step, or another text of one, asks for a new recording; the page says how."""
    text = PAGE.read_text(encoding="utf-8")
    assert text.startswith(TITLE)
    screens = blocks(PAGE, "text")
    assert len(screens) == len(STEPS)
    for step, screen in zip(STEPS, screens, strict=True):
        assert step.text in text
        if step.typed:
            typed = PROMPT + step.typed[0]
            assert screen.replace("\n", "", len(typed) // WIDTH).startswith(typed)
        if step.until is not None:
            assert re.search(step.until, screen)


def test_the_screens_of_the_page_show_neither_a_fault_nor_a_library() -> None:
    for screen in blocks(PAGE, "text"):
        assert max(map(len, screen.splitlines())) <= WIDTH
        assert not re.search(r"Traceback|Warning|error:|Ray Tune|raylet|/site-packages/", screen)
