"""Which trainings a confirmation plans, round by round, and what takes its choice."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hpo.driver.decisions.rounds import Planned, candidates, due, failures, repeats, too_few, unfinished
from hpo.errors import UsageError
from hpo.home import Home
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import EpochRecord, StudyRecord, TrialRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.results.best import best_first, pick, training
from hpo.results.confirmation import confirmation, evaluate
from hpo.results.pruning.ends import predicted_ends
from tests.conftest import synthetic_spec
from tests.support.repeats import SIZES, again
from tests.support.sample_records import BEGAN, SPEC, study, trial
from tests.support.undrawn_report import write_undrawn
from tests.unit.results.test_predicted_ends import study as predicted_study
from trainers.api import EpochMetrics


def searched() -> StudyRecord:
    """Five complete trials, the baseline is the worst; 3 has the configuration of 2, and 5 that of the baseline."""
    complete = [
        trial(0, 16, ending=Ending.COMPLETE, enqueued=True, control=True),
        *(trial(number, 16, ending=Ending.COMPLETE) for number in range(1, 6)),
        trial(6, 4, ending=Ending.PRUNED),
    ]
    complete[3] = dataclasses.replace(complete[3], values=complete[2].values)
    complete[5] = dataclasses.replace(complete[5], values=complete[0].values)
    return study(*complete)


def test_candidates_are_different_configurations_and_the_baseline() -> None:
    """The better of two equal configurations stands for both; the baseline is added if it is not among the best."""
    numbers = [[one.number for one in candidates(searched(), top)] for top in (1, 2, 3, 9)]
    assert numbers == [[0], [0, 4], [0, 4, 3], [0, 4, 3, 1]]
    weak = study(*(trial(n, 16, ending=Ending.COMPLETE, enqueued=n == 0) for n in range(4)))
    assert [one.number for one in candidates(weak, 2)] == [3, 2, 0]
    with pytest.raises(UsageError, match="no complete trial"):
        candidates(study(trial(0, 4)), 3)


def test_with_landing_candidates_are_chosen_by_their_predicted_ends_too() -> None:
    record = predicted_study()
    promise = {number: end.score for number, end in predicted_ends(record).items()}
    ranks = {trial.number: trial.rank for trial in record.trials if trial.complete} | promise
    wanted = sorted(ranks, key=lambda number: -ranks[number])[:4]
    assert set(promise) & set(wanted), "a pruned trial is among them"
    assert [one.number for one in candidates(record, 4)] == wanted
    assert too_few(record, candidates(record, 4), 4) is None


def test_repeats_share_their_seeds_and_are_planned_once() -> None:
    found = searched()
    wanted = repeats(found, candidates(found, 3), 2)
    assert [(one.trial, one.index) for one, _ in wanted] == [(0, 0), (4, 0), (3, 0), (0, 1), (4, 1), (3, 1)]
    assert len({one.seed for one, _ in wanted}) == 2
    assert {one.trial for one, _ in wanted if one.baseline} == {0}
    assert unfinished(found, wanted)
    ended = tuple(
        TrialRecord(number, dict(values), outcome=Outcome(Ending.COMPLETE, ""), repeat=repeat)
        for number, (repeat, values) in enumerate(wanted)
    )
    assert not unfinished(dataclasses.replace(found, repeats=ended), wanted)
    assert unfinished(dataclasses.replace(found, repeats=ended[:-1]), wanted)


def test_an_extended_confirmation_trains_all_configurations_with_the_same_number_of_seeds() -> None:
    """First two with three seeds; then a third comes, with two: it gets three, and nothing is trained twice."""
    found = searched()
    before = repeats(found, candidates(found, 2), 3)
    ended = tuple(
        TrialRecord(number, dict(values), outcome=Outcome(Ending.COMPLETE, ""), repeat=repeat)
        for number, (repeat, values) in enumerate(before)
    )
    extended = dataclasses.replace(found, repeats=ended)
    wanted = [repeat for repeat, _ in repeats(extended, candidates(found, 3), 2)]
    assert {(one.trial, one.index) for one in wanted} == {(trial, index) for trial in (0, 4, 3) for index in range(3)}
    assert {repeat for repeat, _ in before} < set(wanted)


def trained(study: StudyRecord, planned: list[Planned], values: dict[int, float | None]) -> StudyRecord:
    """The study after a round: each training ends near its configuration's value; None: it fails."""
    ended = list(study.repeats)
    for repeat, configuration in planned:
        value = values[repeat.trial]
        noise = 0.003 * (repeat.index * (repeat.trial + 1) % 3)
        metrics = EpochMetrics(epoch=16, val_accuracy=(value or 0.0) + noise)
        epochs = () if value is None else (EpochRecord(metrics, BEGAN),)
        outcome = Outcome(Ending.FAILED if value is None else Ending.COMPLETE, "")
        ended.append(TrialRecord(len(ended), dict(configuration), epochs=epochs, outcome=outcome, repeat=repeat))
    return dataclasses.replace(study, repeats=tuple(ended))


def shares(planned: list[Planned]) -> list[tuple[int, int]]:
    """Trial and seed of each planned training."""
    return [(repeat.trial, repeat.index) for repeat, _ in planned]


def test_the_first_round_has_two_seeds_of_all_and_each_further_one_a_seed_of_those_that_the_race_left() -> None:
    """Trial 3 is far behind after two seeds. The baseline gets every seed, however far behind it is."""
    found = dataclasses.replace(searched(), spec=SIZES)
    wanted = repeats(found, [found.trials[number] for number in (4, 3, 0)], 4)
    values = {4: 0.90, 3: 0.60, 0: 0.50}
    rounds = []
    while planned := due(found, wanted, retry=False):
        rounds.append(shares(planned))
        found = trained(found, planned, values)
    assert rounds == [[(4, 0), (3, 0), (0, 0), (4, 1), (3, 1), (0, 1)], [(4, 2), (0, 2)], [(4, 3), (0, 3)]]
    assert due(found, wanted, retry=True) == []


def test_a_round_that_was_cut_off_is_finished_before_the_next_one_begins() -> None:
    found = dataclasses.replace(searched(), spec=SIZES)
    wanted = repeats(found, [found.trials[number] for number in (4, 3, 0)], 3)
    first = due(found, wanted, retry=False)
    found = trained(found, first[:-1], {4: 0.90, 3: 0.89, 0: 0.88})
    assert shares(due(found, wanted, retry=False)) == shares(first[-1:])


def test_a_configuration_that_failed_is_tried_again_by_the_next_call_and_not_by_the_same_one() -> None:
    found = dataclasses.replace(searched(), spec=SIZES)
    wanted = repeats(found, [found.trials[number] for number in (4, 3, 0)], 3)
    found = trained(found, due(found, wanted, retry=False), {4: 0.90, 3: None, 0: 0.88})
    assert shares(due(found, wanted, retry=False)) == [(4, 2), (0, 2)]
    assert shares(due(found, wanted, retry=True)) == [(3, 0), (3, 1)]
    found = trained(found, due(found, wanted, retry=True), {3: 0.89})
    assert shares(due(found, wanted, retry=False)) == [(4, 2), (3, 2), (0, 2)]


def test_a_failed_repeat_is_planned_again_with_its_seed(home: Home) -> None:
    """Until it succeeds; what is complete is not. The newest try is what counts."""
    found = searched()
    wanted = repeats(found, candidates(found, 2), 2)
    ledger = Ledger.create(open_storage(home.ledger_url), synthetic_spec("again"), {}, name="again-confirmation")
    ledger.plan(wanted)
    ledger.plan(wanted)
    assert len(ledger.trials) == 4
    for failed in ("lost its worker", None):
        for one in [one for one in ledger.trials if not one.started]:
            ledger.ask(lambda asked: ({}, "random"), lambda number: 0)
            failure = failed if one.number == 1 else None
            outcome = Outcome(Ending.FAILED, failure) if failure else Outcome(Ending.COMPLETE, "")
            ledger.record(one.number, EpochMetrics(epoch=1, val_accuracy=0.5 + 0.01 * one.number), None)
            ledger.finish(one.number, outcome)
        study = dataclasses.replace(found, repeats=ledger.trials)
        assert unfinished(study, wanted) is bool(failed)
        assert len(failures(study, wanted)) == bool(failed)
        ledger.plan(wanted)
    assert len(ledger.trials) == 5
    first, again = (ledger.trial(number).repeat for number in (1, 4))
    assert first == again
    assert ledger.trial(1).seed == ledger.trial(4).seed
    done = evaluate(SPEC, ledger.trials)
    assert (done.done, done.planned, done.complete) == (4, 4, True)
    assert all(one.dependable for one in done.ranking)


def test_exports_take_the_confirmed_choice_unless_told_otherwise() -> None:
    """The search liked 3 best; its repeats do not."""
    found = study(*(trial(number, 16, ending=Ending.COMPLETE) for number in range(4)), spec=SIZES)
    found = dataclasses.replace(
        found, repeats=(*again(3, [0.70, 0.71, 0.70]), *again(1, [0.80, 0.81, 0.83])), spec=SIZES
    )
    assert confirmation(found) is not None
    assert pick(found, None).number == 1
    assert pick(found, None, search_best=True).number == 3
    assert [one.number for one in best_first(found, 9)] == [1, 3, 2, 0]
    source = training(found).provenance
    assert source is not None
    assert (source.trial, source.fidelity, source.confirmed_seeds) == (1, "confirmed", 3)
    assert source.confirmed_accuracy == pytest.approx(0.81333, abs=1e-5)
    plain = training(found, search_best=True).provenance
    assert plain is not None
    assert plain.trial == 3


def test_the_incumbent_is_marked_partial_while_no_trial_is_complete() -> None:
    found = training(study(trial(0, 4), trial(1, 8)), partial=True)
    assert found.provenance is not None
    assert (found.provenance.trial, found.provenance.fidelity, found.provenance.epochs) == (1, "partial", 8)
    assert "after 8 of 16 epochs" in found.description


def test_a_report_starts_with_the_confirmed_figures(tmp_path: Path) -> None:
    """Headline, cards and table are of the new seeds; test accuracy is compared with their mean."""
    found = study(*(trial(number, 16, ending=Ending.COMPLETE, enqueued=number == 0) for number in range(4)), spec=SIZES)
    found = dataclasses.replace(
        found,
        repeats=(
            *again(3, [0.70, 0.71, 0.70]),
            *again(1, [0.80, 0.81, 0.83]),
            *again(0, [0.7, 0.7, 0.7], baseline=True),
        ),
        info={"retrainings": [{"trial": 1, "test_accuracy": 0.8}]},
    )
    page = write_undrawn([found], tmp_path)
    for text in (page.read_text(), (tmp_path / "report.md").read_text().replace("\\", "")):
        assert "Trial 1 is confirmed: 81.33 % mean validation accuracy over 3 new seeds" in text
        assert "11.33 points above the baseline." in text
        assert "−1.33 points against mean validation" in text
        assert "chosen: better than others" in text
        assert "paired by seed" in text
