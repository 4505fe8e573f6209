"""What figures look like: legible colours, and stripes where few trials make a rough result."""

from __future__ import annotations

import dataclasses

import pytest

from hpo.ledger.records import EpochRecord, StudyRecord, TrialRecord
from reports.analysis.importance import FEWEST, ROUGH_BELOW, importances
from reports.drawing import palette
from reports.drawing.plot import Bars, Missing, Plot
from reports.drawing.plotly_page import plotly_figure, wrapped
from reports.figures.importances import importance_plot
from tests.browser.simulation import simulated_study
from tests.browser.test_report_sizes import PAPER, contrast
from trainers.api import EpochMetrics


def following(trial: TrialRecord) -> TrialRecord:
    """The trial after two epochs, with an accuracy that follows its dropout."""
    value = float(trial.values["train.progressive.dropout.end"] or 0.0)
    epochs = tuple(EpochRecord(EpochMetrics(epoch=number, val_accuracy=value), 0.0) for number in (1, 2))
    return dataclasses.replace(trial, epochs=epochs)


@pytest.fixture(scope="module")
def study() -> StudyRecord:
    full = simulated_study(trials=ROUGH_BELOW)
    return dataclasses.replace(full, trials=tuple(map(following, full.trials)))


def drawn(study: StudyRecord, trials: int) -> Plot | Missing:
    part = dataclasses.replace(study, trials=study.trials[:trials])
    return importance_plot([part], [importances(part)])


def test_importances_of_too_few_trials_are_withheld_with_their_number(study: StudyRecord) -> None:
    figure = drawn(study, FEWEST - 1)
    assert isinstance(figure, Missing)
    assert f"need at least {FEWEST} trials" in figure.reason
    assert f"here it is {FEWEST - 1}" in figure.reason


@pytest.mark.parametrize(("trials", "hatched"), [(FEWEST, True), (ROUGH_BELOW - 1, True), (ROUGH_BELOW, False)])
def test_importances_of_few_trials_are_hatched_and_the_caption_says_why(
    study: StudyRecord, trials: int, hatched: bool
) -> None:
    figure = drawn(study, trials)
    assert isinstance(figure, Plot)
    bars = [mark for panel in figure.panels for mark in panel.marks if isinstance(mark, Bars)]
    assert [bar.hatched for bar in bars] == [hatched] * len(bars)
    assert f"({trials} trials)" in bars[0].name
    assert (f"Hatched: fewer than {ROUGH_BELOW} trials" in figure.caption) is hatched
    traces = plotly_figure(figure)["data"]
    assert all(("pattern" in trace["marker"]) is hatched for trace in traces)


def test_every_colour_of_a_line_stands_out_from_a_light_and_from_a_dark_page() -> None:
    colors = [*palette.STATUS_COLOR.values(), *palette.STUDY_COLOR, palette.BEST, palette.BASELINE]
    shown = [(color, 1.0) for color in colors] + list(palette.FIFTHS)
    for color, opacity in shown:
        channels = "rgb({}, {}, {})".format(*palette._channels(color))
        for paper in PAPER.values():
            assert contrast(channels, opacity, paper) >= 3, color


def test_a_long_name_is_broken_into_lines_that_a_phone_shows() -> None:
    lines = wrapped("baseline (AdamW, four stages, 128 to 300 px, as in the paper), trial 0").split("<br>")
    assert len(lines) == 2
    assert max(map(len, lines)) <= 40
    assert wrapped("<b>") == "&lt;b&gt;"
