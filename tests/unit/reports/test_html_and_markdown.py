"""The page and its Markdown: the same headings, statements and tables."""

from __future__ import annotations

import dataclasses
import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hpo.ledger.records import StudyRecord
from hpo.results.best import leaders
from tests.browser.simulation import simulated_study
from tests.support.undrawn_report import write_undrawn
from tests.unit.reports.test_models_by_cost import THREE
from tests.unit.reports.test_report_of_a_confirmation import baseline_of, confirmed, repeats

ONLY_IN_A_PAGE = {"Study report", "Comparison of studies", "Filter Status"}
"""The line above the title, and what a reader of Markdown cannot use."""

HIDDEN = ("script", "style", "nav", "noscript", "pre", "select")
"""Tags whose text is not compared: a traceback does not fit into a table of Markdown."""
BLOCKS = ("h1", "h2", "h3", "p", "td", "th", "figcaption", "dt", "dd", "div", "summary")


class Parts(HTMLParser):
    """Headings, statements and tables of a page, without its scripts and figures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.statements: list[str] = []
        self.tables: list[list[list[str]]] = []
        self._kind, self._text, self._silent = "", "", 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in HIDDEN:
            self._silent += 1
        elif tag == "table":
            self.tables.append([])
        elif tag == "br":
            self._text += "\n"
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in BLOCKS and (tag, self._kind) != ("summary", "td"):
            self._kind, self._text = tag, ""

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._text += data

    def handle_endtag(self, tag: str) -> None:
        if tag in HIDDEN:
            self._silent -= 1
        if tag != self._kind:
            return
        said, self._kind, self._text = " ".join(self._text.split()), "", ""
        if tag in ("td", "th"):
            self.tables[-1][-1].append(said)
        elif tag in ("h1", "h2", "h3"):
            self.headings.append(said)
        elif said:
            self.statements.append(said)


def plain(markdown: str) -> str:
    """The text of some Markdown that `escape_markdown` made."""
    return " ".join(html.unescape(re.sub(r"\\(.)", r"\1", markdown.replace("**", ""))).split())


def markdown_tables(text: str) -> list[list[list[str]]]:
    """The cells of each table, without the line below its header."""
    groups = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    return [
        [
            [plain(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in group.splitlines()
            if "---" not in line
        ]
        for group in groups
    ]


def searched() -> StudyRecord:
    return simulated_study(trials=30, description="From <b>scratch</b> | with a *star*.")


def of_a_confirmation() -> StudyRecord:
    study = simulated_study(trials=30)
    own = repeats(leaders(study, 1)[0], (0.98, 0.981, 0.982))
    return confirmed(study, own, repeats(baseline_of(study), (0.9, 0.901, 0.902), baseline=True))


def of_three_models() -> StudyRecord:
    return THREE


def empty() -> StudyRecord:
    return dataclasses.replace(simulated_study(trials=2), trials=(), sessions=())


@pytest.fixture(
    params=[
        (searched,),
        (of_a_confirmation,),
        (empty,),
        (searched, of_a_confirmation),
        (of_three_models,),
    ],
    ids=["searched", "confirmed", "empty", "compared", "models"],
)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Parts, str]:
    """The parts of the page, and the Markdown."""
    studies = [dataclasses.replace(make(), name=f"study{place}") for place, make in enumerate(request.param)]
    page = write_undrawn(studies, tmp_path)
    parts = Parts(page.read_text(encoding="utf-8"))
    return parts, (tmp_path / "report.md").read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^(`{3,})\w*\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)


def test_both_have_the_same_headings_in_the_same_order(written: tuple[Parts, str]) -> None:
    parts, text = written
    assert [plain(line) for line in re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE)] == parts.headings


def test_both_have_the_same_tables(written: tuple[Parts, str]) -> None:
    """Markdown has two more kinds: the numbers that a page shows as cards, and one table where the page has a pair."""
    parts, text = written
    facts = [row for table in parts.tables for row in table if len(row) == 2]
    mine = [table for table in parts.tables if any(len(row) != 2 for row in table)]
    tables = markdown_tables(without_code(text))
    theirs = [[row for row in table if any(row)] for table in tables]
    assert [table for table in theirs if table[0][0] in {row[0][0] for row in mine}] == mine
    assert [row for table in theirs for row in table if len(row) == 2 and row[0] != "trial"] == facts
    assert len(mine) >= (0 if "No trial has started" in text else 3)


def test_everything_that_the_page_states_is_in_the_markdown_and_the_other_way_round(written: tuple[Parts, str]) -> None:
    parts, text = written
    everything = plain(re.sub(r"^`{3,}\w*$", "", re.sub(r"(?<!\\)\|", " ", text), flags=re.MULTILINE))
    for said in parts.statements:
        for sentence in said.split(": hpo ") if ": hpo " in said else [said]:
            assert sentence.removesuffix(":") in everything or said in ONLY_IN_A_PAGE, sentence
    shown = " ".join([*parts.statements, *parts.headings, *(" ".join(row) for table in parts.tables for row in table)])
    blocks = re.split(r"\n\n+", re.sub(r"^!\[.*$", "", without_code(text), flags=re.MULTILINE))
    for block in blocks:
        if block.strip() and not block.lstrip().startswith(("|", "#", "- ")):
            assert plain(block).removesuffix(":") in shown
