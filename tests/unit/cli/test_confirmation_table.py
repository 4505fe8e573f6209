"""What `hpo confirm` prints fits the terminal."""

from __future__ import annotations

import pytest
from rich.text import Text

from hpo.cli.display.confirmation import show_confirmation
from tests.support.repeats import again, judged


@pytest.mark.parametrize(
    ("width", "hidden"),
    [
        (200, ""),
        (100, "hidden columns: compute, seeds (a wider terminal shows all)"),
        (80, "hidden columns: compute, seeds, 95 % interval, is best (a wider terminal shows all)"),
    ],
)
def test_the_table_of_a_confirmation_keeps_its_verdicts_on_their_lines(
    width: int, hidden: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FORCE_COLOR", "1")
    found = judged(again(1, [0.9, 0.92, 0.91]), again(0, [0.2, 0.21, 0.22], baseline=True))
    show_confirmation(found)
    shown = Text.from_ansi(capsys.readouterr().out).plain.splitlines()
    table = shown[next(place for place, line in enumerate(shown) if line.startswith("trial  ")) :]
    assert [line.split("  ")[-1].strip() for line in table[1:3]] == ["chosen: better than others", "worse"]
    assert max(map(len, table)) <= width
    assert " ".join(line.strip() for line in table[3:]) == hidden
