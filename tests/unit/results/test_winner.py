"""Which trial of a study is the best, on which ground, and when a gain is within noise: one answer for every output."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from hpo.cli.display.plain import closing
from hpo.cli.display.status import study_json
from hpo.cli.display.studies import _table, summary_json
from hpo.home import Home
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import EpochRecord, Repeat, StudyRecord, TrialRecord
from hpo.results.confirmation import confirmation
from hpo.results.summary import description
from hpo.results.winner import gain_of, winner
from reports.analysis.answer import answer
from reports.page.cards import cards
from reports.page.sentences import headline
from tests.support.sample_records import BEGAN, study, trial
from trainers.api import EpochMetrics


def scored(number: int, *accuracies: float, enqueued: bool = False) -> TrialRecord:
    """A complete trial with these accuracies."""
    epochs = tuple(
        EpochRecord(EpochMetrics(epoch=epoch, val_accuracy=value), BEGAN + 30 * epoch)
        for epoch, value in enumerate(accuracies, 1)
    )
    return dataclasses.replace(trial(number, 0, ending=Ending.COMPLETE), epochs=epochs, enqueued=enqueued)


def repeated(of: TrialRecord, *accuracies: float, baseline: bool = False) -> list[TrialRecord]:
    return [
        dataclasses.replace(scored(0, value), values=of.values, repeat=Repeat(of.number, seed, seed, baseline))
        for seed, value in enumerate(accuracies)
    ]


BASELINE, LUCKY, STEADY = scored(0, 0.5, enqueued=True), scored(1, 0.9), scored(2, 0.8)


def on(images: int | None, *trials: TrialRecord) -> StudyRecord:
    """A study of these trials that were scored on so many images."""
    data = {"train_count": 4_500, "validation_count": images} if images else {}
    return dataclasses.replace(study(*trials), info={"created": BEGAN, "data": data})


@pytest.fixture
def confirmed() -> StudyRecord:
    """New seeds choose trial 2, not trial 1, the best of the search."""
    searched = on(500, BASELINE, LUCKY, STEADY)
    repeats = [
        *repeated(BASELINE, 0.50, 0.52, baseline=True),
        *repeated(LUCKY, 0.60, 0.61),
        *repeated(STEADY, 0.80, 0.81),
    ]
    return dataclasses.replace(searched, repeats=tuple(repeats))


def test_every_output_names_the_trial_that_a_confirmation_chose(confirmed: StudyRecord, tmp_path: Path) -> None:
    best = winner(confirmed)
    assert best is not None
    assert (best.trial.number, best.ground, best.accuracy) == (2, "confirmed", pytest.approx(0.805))
    for shown in (study_json(confirmed, Home.at(tmp_path)), summary_json(confirmed, Home.at(tmp_path))):
        assert json.loads(json.dumps(shown))["best"] == 2
        assert shown["best_val_accuracy"] == 0.8
        assert shown["confirmed_val_accuracy"] == pytest.approx(0.805)
        assert (shown["best_ground"], shown["search_best"]) == ("confirmed", 1)
    assert "Confirmed: trial 2, mean validation accuracy over new seeds 80.50 %" in closing(confirmed, "")
    assert "- confirmed: trial 2, mean validation accuracy over new seeds 80.50 %" in description(confirmed)
    assert "Trial 2 is confirmed: 80.50 %" in headline(answer(confirmed))
    cells = [cell for column in _table([confirmed]).columns for cell in column.cells]
    assert "80.50 %, trial 2" in cells
    assert "90.00 %, trial 1" in cells, "the best of the search"


def test_without_a_confirmation_the_best_of_the_search_wins() -> None:
    best = winner(on(500, BASELINE, LUCKY, STEADY))
    assert best is not None
    assert (best.trial.number, best.ground, best.accuracy) == (1, "search", 0.9)
    assert winner(study()) is None


def test_a_gain_of_one_image_in_500_is_within_noise_in_every_output(tmp_path: Path) -> None:
    close = on(500, scored(0, 0.9, enqueued=True), scored(1, 0.902))
    said = "+0.20 points (within noise)"
    assert f"Gain over the baseline: {said}" in closing(close, "")
    assert f"{said} over the baseline" in description(close)
    assert "0.20 points above the baseline (within noise)" in headline(answer(close))
    assert said in [card.value for card in cards(answer(close))]
    assert study_json(close, Home.at(tmp_path))["gain"]["within_noise"] is True

    clear = on(500, scored(0, 0.5, enqueued=True), scored(1, 0.9))
    assert "Gain over the baseline: +40.00 points (trial 0" in closing(clear, "")
    assert study_json(clear, Home.at(tmp_path))["gain"]["within_noise"] is False


def test_without_a_number_of_images_the_noise_of_the_trainings_decides() -> None:
    noisy = on(None, scored(0, 0.80, 0.84, 0.80, 0.84, enqueued=True), scored(1, 0.81, 0.85, 0.81, 0.85))
    gain = gain_of(noisy, noisy.trials[1])
    assert gain is not None
    assert gain.within_noise is True
    short = on(None, scored(0, 0.80, enqueued=True), scored(1, 0.85))
    gain = gain_of(short, short.trials[1])
    assert str(gain) == "+5.00 points (noise unknown)"


def test_the_baseline_itself_has_no_gain() -> None:
    first = on(500, scored(0, 0.9, enqueued=True), scored(1, 0.8))
    assert "It is the baseline: no other trial is better." in closing(first, "")
    assert "Gain over" not in closing(first, "")
    assert description(first).count("validation accuracy 90.00 %, the baseline") == 1


def test_a_confirmation_that_chooses_the_baseline_says_so(confirmed: StudyRecord) -> None:
    repeats = (*repeated(BASELINE, 0.80, 0.81, baseline=True), *repeated(LUCKY, 0.60, 0.61))
    result = answer(dataclasses.replace(confirmed, repeats=repeats))
    (card,) = [card for card in cards(result) if card.label.startswith("Gain")]
    assert (card.value, card.note) == ("0 points", "the baseline (trial 0) is the best trial")
    assert "It is the baseline: no other configuration is better by more than chance" in headline(result)


def test_intervals_of_accuracies_stay_between_0_and_100_percent(confirmed: StudyRecord) -> None:
    """Three seeds up to 10 points apart: without the ends, the intervals would pass 0 and 100 %."""
    repeats = (*repeated(STEADY, 0.90, 1.0, 0.9575), *repeated(BASELINE, 0.0, 0.04, 0.02, baseline=True))
    result = confirmation(dataclasses.replace(confirmed, repeats=repeats))
    assert result is not None
    best, worst = (entry.interval for entry in result.ranking)
    assert best is not None
    assert worst is not None
    assert (best.mean, best.high) == (pytest.approx(0.9525), 1.0)
    assert (worst.mean, worst.low) == (pytest.approx(0.02), 0.0)
    assert result.gain is not None
    assert result.gain.high <= 1.0


def test_an_unfinished_confirmation_leaves_the_best_of_the_search(confirmed: StudyRecord) -> None:
    *ended, last = confirmed.repeats
    waiting = dataclasses.replace(last, outcome=Outcome(Ending.INTERRUPTED, "stopped"))
    best = winner(dataclasses.replace(confirmed, repeats=(*ended, waiting)))
    assert best is not None
    assert (best.trial.number, best.ground) == (1, "search")
