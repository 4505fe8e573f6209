"""A study in MLflow's own UI, which `hpo ui` starts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hpo.ledger.records import StudyRecord
from hpo.tracking.mirror import Mirror
from tests.browser import mlflow_pages as pages
from tests.browser.chromium import mlflow_ui, text
from tests.browser.watched import Watched


@pytest.fixture(scope="module")
def study(watched: Watched) -> StudyRecord:
    return watched.study


@pytest.fixture(scope="module")
def shown(browser: Any, watched: Watched) -> Iterator[tuple[str, Mirror]]:
    """The address that `hpo ui` prints, and the mirror that wrote the study."""
    browser.set_window_size(1600, 1200)
    with mlflow_ui(watched.home, watched.study.name) as address:
        yield address, watched.mirror
        browser.get("about:blank")
    browser.set_window_size(1280, 900)


def test_the_page_of_a_study_shows_its_description_and_its_trials(
    browser: Any, shown: tuple[str, Mirror], study: StudyRecord
) -> None:
    words = pages.overview(browser, pages.run(shown[0], shown[1].store.parent))
    assert study.best is not None
    for expected in (
        f"best so far: trial {study.best.number}, validation accuracy",
        "baseline",
        "search: gp, ASHA with reduction factor 4",
        "cifar10 (abababab)",
        "Finished",
        "incumbent/val_accuracy",
        "trial-00011",
    ):
        assert expected in words, words


def test_the_printed_address_opens_all_trials_with_their_accuracy_and_the_best_first(
    browser: Any, shown: tuple[str, Mirror], study: StudyRecord
) -> None:
    rows = pages.trials(browser, shown[0], "metrics.`val_accuracy`")
    assert "Judges" not in text(browser)  # which stands beside MLflow's pages for language models
    names = [name for name, _ in rows]
    assert sorted(names) == [*(f"trial-{number:05d}" for number in range(12)), "watched"]
    values = [float(value) for _, value in rows if value != "-"]
    assert values == sorted(values, reverse=True)
    assert len(values) > 8
    assert study.best is not None
    assert set(names[:2]) == {"watched", f"trial-{study.best.number:05d}"}  # the study has the values of its best trial


def test_trials_are_drawn_together_in_one_chart(browser: Any, shown: tuple[str, Mirror]) -> None:
    most = 10  # runs that MLflow draws until it is asked for more
    assert pages.all_charts(browser, shown[0], "val_accuracy", least=most) >= most
    lines = text(browser).splitlines()
    order = [line for line in lines if line in ("val_accuracy", "Parallel Coordinates") or line.endswith("_loss")]
    assert order[:2] == ["val_accuracy", "Parallel Coordinates"], "the objective comes first"


def test_trials_are_listed_in_order_below_their_study(browser: Any, shown: tuple[str, Mirror]) -> None:
    expected = ["watched", *(f"trial-{number:05d}" for number in reversed(range(12)))]
    assert pages.table(browser, shown[0]) == expected  # MLflow sorts the newest first


@pytest.mark.parametrize(("status", "word"), [("complete", "Finished"), ("pruned", "Killed"), ("failed", "Failed")])
def test_the_page_of_a_trial_shows_how_the_trial_ended(
    browser: Any, shown: tuple[str, Mirror], study: StudyRecord, status: str, word: str
) -> None:
    trial = next(trial for trial in study.trials if trial.status == status)
    words = pages.overview(browser, pages.run(shown[0], shown[1].runs[trial.number]))
    lines = words.splitlines()
    assert lines[lines.index("Status") + 1] == word
    assert "train.lr" in lines
    assert "val_accuracy" in lines


def test_mlflow_draws_charts_and_shows_the_plots(browser: Any, shown: tuple[str, Mirror], study: StudyRecord) -> None:
    own = pages.run(shown[0], shown[1].store.parent)
    assert pages.charts(browser, own, "incumbent/val_accuracy") > 0
    trial = next(trial for trial in study.trials if trial.status == "complete")
    run = pages.run(shown[0], shown[1].runs[trial.number])
    assert pages.charts(browser, run, "val_accuracy") > 5
    pages.artifact(browser, own, "plots/history.png")


def test_trials_compare_in_parallel_coordinates(browser: Any, shown: tuple[str, Mirror]) -> None:
    axes = pages.comparison(browser, shown[0], list(shown[1].runs.values()))
    assert "train.lr" in axes
    assert "seed" not in axes
