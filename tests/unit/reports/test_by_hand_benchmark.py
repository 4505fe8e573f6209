"""The comparison with the three libraries by hand: its counts, and the pages that show them."""

from __future__ import annotations

import json
from dataclasses import replace

from reports.benchmarks.by_hand.comparison import TRIALS, Ending, page, table
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "reports" / "benchmarks" / "by_hand"

OURS = Ending(
    stack="hpo",
    killed=False,
    finished=True,
    trials=TRIALS,
    optuna={"COMPLETE": 6, "PRUNED": 8, "FAIL": 2},
    short_but_complete=0,
    diverged=["FAIL", "FAIL"],
    runs=TRIALS,
    mlflow={"FINISHED": 6, "KILLED": 8, "FAILED": 2},
)
BY_HAND = replace(
    OURS,
    stack="by hand",
    optuna={"COMPLETE": 15, "RUNNING": 1},
    short_but_complete=8,
    diverged=["RUNNING", "COMPLETE"],
    mlflow={"FINISHED": 16},
)


def cells(*endings: Ending) -> list[tuple[str, str]]:
    """The two figures of every row of the table."""
    rows = [line.strip("| ").split(" | ") for line in table(endings).splitlines()[2:]]
    return [(by_hand, ours) for _, by_hand, ours in rows]


def test_the_table_counts_what_the_records_say() -> None:
    killed = [
        replace(OURS, killed=True),
        replace(BY_HAND, killed=True, finished=False),
        replace(BY_HAND, killed=True, optuna={"COMPLETE": 16}, runs=TRIALS + 1),
        replace(BY_HAND, killed=True, optuna={"COMPLETE": 16}),
    ]
    assert cells(OURS, BY_HAND, *killed) == [
        ("8", "0"),
        ("9", "0"),
        ("RUNNING, COMPLETE", "FAIL, FAIL"),
        ("2 of 3", "1 of 1"),
        ("1 of 3", "1 of 1"),
    ]


def test_a_record_that_still_runs_is_not_whole() -> None:
    running = replace(OURS, killed=True, mlflow={"FINISHED": 15, "RUNNING": 1})
    assert cells(OURS, BY_HAND, running)[-1] == ("0 of 0", "0 of 1")


def test_the_page_and_the_readme_show_the_recorded_figures() -> None:
    recorded = json.loads((FOLDER / "by_hand.json").read_text(encoding="utf-8"))
    endings = [Ending(**ending) for ending in recorded["studies"]]
    assert (FOLDER / "by_hand.md").read_text(encoding="utf-8") == page(endings, recorded["versions"])
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert "\n".join(table(endings).splitlines()[2:]) in readme
