"""A study in Optuna Dashboard and in TensorBoard: what a person sees there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hpo.ledger.records import StudyRecord
from hpo.tracking.tensorboard import event_folder
from tests.browser.chromium import text, wait
from tests.browser.watched import Watched, served


@pytest.fixture(scope="module")
def dashboard(watched: Watched) -> Iterator[str]:
    """The address of Optuna Dashboard, which reads the ledger."""
    pytest.importorskip("optuna_dashboard")
    with served("optuna-dashboard", watched.home.ledger_url, "--quiet") as address:
        yield f"{address}/dashboard"


@pytest.fixture(scope="module")
def board(watched: Watched) -> Iterator[str]:
    """The address of TensorBoard, which reads the event files."""
    pytest.importorskip("tensorboard")
    with served("tensorboard", "--logdir", str(event_folder(watched.home, watched.study.name))) as address:
        yield address


def shown(page: Any, address: str, *words: str) -> str:
    """The text of the page at `address` once it has the words."""
    page.get("about:blank")  # another fragment of the same page would not load anything
    page.get(address)
    wait(page, lambda window: all(word in text(window) for word in words), f"{words} at {address}")
    return text(page)


def best_of(study: StudyRecord) -> tuple[int, float]:
    """Number and value of the best trial."""
    assert study.best is not None
    assert study.best.value is not None
    return study.best.number, study.best.value


def test_optuna_dashboard_lists_the_study_and_says_that_more_is_better(wide: Any, dashboard: str) -> None:
    assert "Direction: MAXIMIZE" in shown(wide, dashboard, "1. watched")


def test_optuna_dashboard_draws_the_values_under_the_name_of_the_objective_and_the_importances(
    wide: Any, dashboard: str, watched: Watched
) -> None:
    number, value = best_of(watched.study)
    page = shown(wide, f"{dashboard}/studies/1", f"Best Trial (number={number})", "Hyperparameter Importance")
    wait(wide, lambda window: set(watched.study.spec.space) <= set(text(window).splitlines()), "the importances")
    assert str(value) in page
    titles = "return [...document.querySelectorAll('.ytitle')].map(title => title.textContent)"
    assert "val_accuracy" in wide.execute_script(titles)
    points = "return document.querySelectorAll('.js-plotly-plot .scatterlayer .point').length"
    valued = watched.study.count("complete") + watched.study.count("pruned")
    assert wide.execute_script(points) >= valued > 5


def test_optuna_dashboard_shows_of_a_trial_its_curve_its_settings_and_how_it_ended(
    wide: Any, dashboard: str, watched: Watched
) -> None:
    trial = next(trial for trial in watched.study.trials if trial.status == "pruned")
    assert trial.outcome is not None
    page = shown(wide, f"{dashboard}/studies/1/trials?numbers={trial.number}", f"Trial {trial.number} (", "outcome")
    assert page.count("Pruned") >= watched.study.count("pruned")
    assert [f"Trial {number}" in page.splitlines() for number in range(12)] == [True] * 12
    assert trial.outcome.reason in page
    for epoch in trial.epochs:
        assert f"{epoch.metrics.epoch} {epoch.value:g}" in page
    for path, value in trial.values.items():
        assert f"{path} {value}" in page
    _, _, listed = page.partition("User Attributes")
    assert [line.split()[0] for line in listed.splitlines() if line] == ["outcome"]


def test_tensorboard_draws_the_curves_of_all_trials_with_results_before_costs(
    wide: Any, board: str, watched: Watched
) -> None:
    number, value = best_of(watched.study)
    shown(wide, f"{board}/#timeseries", "trial-00011", "train_loss", f"{value:g}")
    groups = "return [...document.querySelectorAll('metrics-card-groups .group-title')].map(one => one.textContent)"
    titles = [title.strip() for title in wide.execute_script(groups)]
    assert titles == ["train_loss", "val_accuracy", "val_loss", "work"]
    cards = "return [...document.querySelectorAll('scalar-card')].map(one => one.innerText.split(/\\s+/))"
    curves = next(words for words in wide.execute_script(cards) if words[0] == "val_accuracy")
    assert f"{value:g}" in curves[curves.index(f"trial-{number:05d}") :][:4]
    for trial in watched.study.trials:
        assert (f"trial-{trial.number:05d}" in curves) is bool(trial.epochs)


def test_tensorboard_compares_the_settings_of_all_trials_in_a_table(wide: Any, board: str, watched: Watched) -> None:
    words = """
        const inside = (root) => [...root.querySelectorAll("*")]
          .flatMap((one) => [...(one.children.length ? [] : [one.textContent.trim()]),
            ...(one.shadowRoot ? inside(one.shadowRoot) : [])]);
        return inside(document).filter((one) => one);"""
    shown(wide, f"{board}/#hparams", "HPARAMS")
    number, value = best_of(watched.study)
    said = wait(
        wide, lambda window: "trial-00011" in (found := window.execute_script(words)) and found, "the table of trials"
    )
    assert {"train.lr", "train.optimizer", "val_accuracy", f"trial-{number:05d}", f"{value:.5f}"} <= set(said)
