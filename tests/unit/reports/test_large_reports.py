"""The report of a study that no page can show whole: what stays in it, and that it says what it leaves out."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from hpo.ledger.records import StudyRecord
from hpo.results.pareto import front
from reports.benchmarks.large_study import SETTINGS, specification, study
from reports.drawing.plot import Panel, Plot
from reports.figures.trials import thin
from reports.page.render import MOST_ROWS, draw, write_report

TRIALS = 1_500


@pytest.fixture(scope="module")
def large() -> StudyRecord:
    asha = {**SETTINGS["asha"], "controls": 0.04}
    return study(specification(TRIALS, asha=asha, objectives=["val_accuracy", "params"]))


def test_a_sample_of_trials_is_bounded_and_has_the_trials_that_people_ask_for(large):
    kept = thin(large, large.trials, 300)
    assert len(kept) == 300
    assert [trial.number for trial in kept] == sorted({trial.number for trial in kept})
    assert all(trial in kept for trial in (large.best, large.baseline, *front(large)))
    controls = [trial for trial in large.trials if trial.control and trial.complete]
    assert 20 < len(controls) < 75
    assert all(trial in kept for trial in controls)


def test_more_controls_than_fit_are_sampled_and_never_push_the_best_out(large):
    kept = thin(large, large.trials, 40)
    assert len(kept) == 40
    assert large.best in kept
    assert large.baseline in kept
    assert sum(trial.control for trial in kept) >= 10


def test_each_figure_has_a_bounded_number_of_marks_and_says_what_it_leaves_out(large, monkeypatch):
    monkeypatch.setattr("reports.figures.contours.MOST_POINTS", 20)
    figures = [figure for figure in draw([large]) if isinstance(figure, Plot)]
    marks = {figure.key: sum(map(_marks, figure.panels)) for figure in figures}
    assert max(marks.values()) < 6_000, marks
    captions = {figure.key: figure.caption for figure in figures}
    assert "even sample of the others" in captions["curves"]
    assert "even sample of the others" in captions["parallel"]
    assert "6 most important of 8 parameters" in captions["slices"]
    assert "a sample of the trials" in captions["contours"]
    assert "further workers" in captions["gantt-1"]


def _marks(panel: Panel) -> int:
    """Curves, points and bars."""
    return sum(len(getattr(mark, "paths", getattr(mark, "x", getattr(mark, "lengths", ())))) for mark in panel.marks)


def test_tables_are_bounded_and_the_whole_is_beside_the_page(large, tmp_path):
    page = write_report([large], tmp_path).read_text()
    assert page.count("<tr data-status=") == MOST_ROWS
    assert "This table shows the best 1,000 of 1,500 trials." in page
    for trial in (large.best, large.baseline, *front(large)):
        assert f"<td>{trial.number}</td>" in page
    assert "of 1500 trials. The file trials.csv has all of them." in (tmp_path / "report.md").read_text()
    with Path(tmp_path, "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == list(range(TRIALS))
    assert (rows[0]["train.lr"], rows[0]["epochs"]) == ("0.001", "20")
