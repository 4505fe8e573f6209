"""When a running study is drawn, and what a failure costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from hpo.ledger.records import StudyRecord
from hpo.tracking.plots import Plots
from tests.support.sample_records import study, trial


class Run:
    """A study run that keeps the images in memory, or refuses them."""

    def __init__(self) -> None:
        self.stored: list[Mapping[str, bytes]] = []
        self.available = True

    def draw(self, study: StudyRecord, images: Mapping[str, bytes]) -> None:
        if not self.available:
            raise ConnectionError("down")
        self.stored.append(images)


def test_a_study_is_drawn_again_only_when_it_has_changed() -> None:
    run: Any = Run()
    drawn: list[int] = []

    def figures(study: StudyRecord) -> dict[str, bytes]:
        drawn.append(len(study.trials))
        return {"plot.png": b""}

    plots = Plots(figures)
    plots.update(run, study(trial(0, 4)))
    plots.update(run, study(trial(0, 4)))
    assert drawn == [1]
    assert run.stored == [{"plot.png": b""}]
    plots.update(run, study(trial(0, 5)))
    plots.update(run, study(trial(0, 5), trial(1, 1)))
    assert drawn == [1, 1, 2]


def test_plots_that_could_not_be_stored_are_drawn_again() -> None:
    run: Any = Run()
    run.available = False
    plots = Plots(lambda study: {"plot.png": b""})
    with pytest.raises(ConnectionError):
        plots.update(run, study(trial(0, 4)))
    run.available = True
    plots.update(run, study(trial(0, 4)))
    assert run.stored == [{"plot.png": b""}]


def test_a_figure_that_fails_ends_the_drawing() -> None:
    run: Any = Run()
    calls: list[None] = []

    def broken(study: StudyRecord) -> dict[str, bytes]:
        calls.append(None)
        raise ValueError("no such colour")

    plots = Plots(broken)
    plots.update(run, study(trial(0, 4)))
    plots.update(run, study(trial(0, 5)))
    assert plots.failure == "ValueError: no such colour"
    assert len(calls) == 1
    assert run.stored == []
