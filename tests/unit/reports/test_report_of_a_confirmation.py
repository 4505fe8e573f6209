"""The report of a confirmed study: every part of the page speaks of the trial that the confirmation chose."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import EpochRecord, Repeat, StudyRecord, TrialRecord
from hpo.results.best import leaders
from reports.analysis.answer import answer
from reports.analysis.stages import Stages
from reports.drawing.plot import Lines, Missing, Plot
from reports.figures.curves import curves
from reports.figures.survival import survival_plot
from reports.page import render
from reports.page.cards import cards
from reports.page.reproduce import reproduction
from reports.page.sentences import headline, selection, verdict
from reports.page.tables import trial_table
from tests.browser.simulation import BEGIN, simulated_study
from tests.support.undrawn_report import write_undrawn
from trainers.api import EpochMetrics


@pytest.fixture(scope="module")
def study() -> StudyRecord:
    return simulated_study(trials=30)


def repeats(trial: TrialRecord, accuracies: Sequence[float | None], *, baseline: bool = False) -> list[TrialRecord]:
    """A configuration's trainings with new seeds; None for one that failed."""
    found = []
    for seed, value in enumerate(accuracies):
        epochs = () if value is None else (EpochRecord(EpochMetrics(epoch=32, val_accuracy=value), BEGIN + 9.0),)
        outcome = Outcome(Ending.FAILED if value is None else Ending.COMPLETE, "")
        repeat = Repeat(trial.number, seed, seed, baseline)
        found.append(TrialRecord(seed, trial.values, epochs=epochs, outcome=outcome, repeat=repeat))
    return found


def confirmed(study: StudyRecord, *configurations: list[TrialRecord]) -> StudyRecord:
    return dataclasses.replace(study, repeats=tuple(one for group in configurations for one in group))


def baseline_of(study: StudyRecord) -> TrialRecord:
    assert study.baseline is not None
    return study.baseline


def other_winner(study: StudyRecord) -> tuple[StudyRecord, TrialRecord, TrialRecord]:
    """The study after a confirmation that did not choose the winner of the search, and both trials."""
    first = leaders(study, 1)[0]
    complete = [trial for trial in study.trials if trial.complete and not trial.enqueued and trial is not first]
    other = next(trial for trial in complete if Stages(study).of(trial) != Stages(study).of(first))
    chosen = repeats(other, (0.98, 0.981, 0.982))
    return confirmed(study, repeats(first, (0.90, 0.901, 0.902)), chosen), first, other


def test_curves_stages_and_marks_are_those_of_the_confirmed_trial(study: StudyRecord) -> None:
    found, first, other = other_winner(study)
    figure = curves([found])
    assert isinstance(figure, Plot)
    names = [mark.name for mark in figure.panels[0].marks if isinstance(mark, Lines)]
    assert f"best, trial {other.number}" in names
    assert f"best, trial {first.number}" not in names
    changes = [f"{a.size} → {b.size} px" for a, b in itertools.pairwise(Stages(study).of(other))]
    assert [rule.label for rule in figure.panels[0].rules if "px" in rule.label] == changes
    columns, rows = trial_table([found])
    note = [column.label for column in columns].index("note")
    assert [row.cells[0] for row in rows if "best" in row.cells[note].split(", ")] == [str(other.number)]
    assert ("seed of the best trial", str(other.seed)) in reproduction(found).facts


def test_a_baseline_that_wins_the_confirmation_is_not_called_incomplete(study: StudyRecord, tmp_path: Path) -> None:
    baseline, best = baseline_of(study), leaders(study, 1)[0]
    found = confirmed(study, repeats(best, (0.90, 0.901)), repeats(baseline, (0.98, 0.981), baseline=True))
    said = answer(found)
    assert headline(said).startswith(f"Trial {baseline.number} is confirmed: 98.05 % mean validation accuracy")
    assert "It is the baseline: no other configuration is better by more than chance" in headline(said)
    gain = next(card for card in cards(said) if card.label == "Gain over the baseline")
    assert (gain.value, gain.note) == ("0 points", f"the baseline (trial {baseline.number}) is the best trial")
    write_undrawn([found], tmp_path)
    for file in ("report.html", "report.md"):
        assert "not complete" not in (tmp_path / file).read_text(encoding="utf-8")


def test_a_gain_is_unknown_where_the_baseline_failed_in_the_confirmation(study: StudyRecord) -> None:
    baseline, best = baseline_of(study), leaders(study, 1)[0]
    found = confirmed(study, repeats(best, (0.98, 0.981)), repeats(baseline, (0.9, None), baseline=True))
    gain = next(card for card in cards(answer(found)) if card.label == "Gain over the baseline")
    expected = f"the baseline (trial {baseline.number}) failed with a seed of the confirmation"
    assert (gain.value, gain.note) == ("–", expected)


def test_studies_are_compared_by_their_confirmed_accuracies(study: StudyRecord) -> None:
    """The first is better by its search, the second by its confirmation."""
    other = dataclasses.replace(simulated_study("other", trials=30, seed=3, lift=-0.02))
    better = confirmed(other, repeats(leaders(other, 1)[0], (0.99, 0.991)))
    worse = confirmed(study, repeats(leaders(study, 1)[0], (0.95, 0.951)))
    assert verdict([answer(worse), answer(better)]).startswith("other is ahead of cifar10 by 4.00 points")


def test_a_comparison_says_what_cannot_be_compared_also_where_no_number_of_images_is_known(study: StudyRecord) -> None:
    spec = study.spec.model_copy(update={"trainer": "mine:train"})
    mine = dataclasses.replace(study, name="mine", spec=spec, info={})
    text = verdict([answer(study), answer(mine)])
    assert (
        "The studies use different data (cifar10, that of mine:train), so their accuracies cannot be compared" in text
    )


def test_a_study_without_asha_has_no_figure_of_rungs() -> None:
    figure = survival_plot([simulated_study(trials=3, asha={"enabled": False, "grace_period": 2})])
    assert isinstance(figure, Missing)
    assert figure.reason == "ASHA is off: there are no rungs."


def test_a_comparison_says_which_accuracies_may_be_too_high(study: StudyRecord) -> None:
    sure = confirmed(study, repeats(leaders(study, 1)[0], (0.95, 0.951)))
    assert selection([answer(sure), answer(study)]).startswith("An accuracy that is not confirmed is probably a little")
    assert selection([answer(sure)]).startswith("The confirmed accuracy comes from trainings with new seeds")
    assert selection([answer(study)]).startswith("The best trial was chosen by the accuracy shown here")


def test_the_pareto_front_of_a_comparison_names_its_study(study: StudyRecord) -> None:
    spec = study.spec.model_copy(update={"objectives": ("val_accuracy", "images_per_s")})
    content = render._content([study, dataclasses.replace(study, name="other", spec=spec)], [], "")
    for text in (render._markdown(content), render._html(content, [])):
        assert "Pareto front of other" in text
