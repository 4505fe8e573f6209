"""What a confirmation concludes, compared with results by hand and with scipy's own tests."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from hpo.driver.confirm import candidates, failures, repeats, unfinished
from hpo.errors import UsageError
from hpo.home import Home
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import EpochRecord, Repeat, StudyRecord, TrialRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.results.best import best_first, pick, training
from hpo.results.confirmation import Confirmation, confirmation, evaluate
from hpo.results.confirmation_text import confirmation_json, verdict
from hpo.spec.study import Spec
from reports.page.render import write_report
from tests.conftest import synthetic_spec
from tests.support.sample_records import BEGAN, SPEC, study, trial
from trainers.api import EpochMetrics

SIZES = SPEC.model_copy(
    update={"space": {**SPEC.space, "train.progressive.size.end": Spec.model_validate(
        {"study": "s", "space": {"train.progressive.size.end": {"type": "int", "low": 128, "high": 256}}}
    ).space["train.progressive.size.end"]}}
)  # fmt: skip


def again(number: int, accuracies: list[float | None], *, size: int = 256, baseline: bool = False) -> list[TrialRecord]:
    """A configuration's repeats, one per seed; None for one that failed."""
    found = []
    for index, value in enumerate(accuracies):
        epochs = () if value is None else (EpochRecord(EpochMetrics(epoch=16, val_accuracy=value), BEGAN),)
        ending = Ending.FAILED if value is None else Ending.COMPLETE
        values = {"train.progressive.stages": 1, "train.progressive.size.end": size}
        repeat = Repeat(number, index, index, baseline)
        found.append(TrialRecord(len(found), values, epochs=epochs, outcome=Outcome(ending, ""), repeat=repeat))
    return found


def judged(*configurations: list[TrialRecord]) -> Confirmation:
    return evaluate(SIZES, [one for trials in configurations for one in trials])


def test_a_noisy_baseline_does_not_tie_other_configurations() -> None:
    """Trial 1 is better than trial 2 with every seed, by about 1 point. The baseline varies by 3 points, which says
    nothing about those two."""
    found = judged(
        again(1, [0.900, 0.901, 0.902]),
        again(2, [0.890, 0.8912, 0.8919], size=128),
        again(0, [0.67, 0.70, 0.73], size=64, baseline=True),
    )
    assert [(one.trial, one.tied) for one in found.ranking] == [(1, True), (2, False), (0, False)]
    assert found.chosen is not None
    assert found.chosen.trial == 1


def test_configurations_with_unequal_numbers_of_seeds_are_compared_over_those_in_common() -> None:
    """Confirmed with five seeds, then others with three; none of them crashes the comparison."""
    found = judged(
        again(1, [0.90, 0.92, 0.94, 0.91, 0.93]),
        again(2, [0.80, 0.83, 0.84]),
        again(0, [0.85, 0.88, 0.89, 0.87, 0.88], baseline=True),
    )
    assert [(one.trial, one.tied, len(one.accuracies)) for one in found.ranking] == [
        (1, True, 5),
        (0, False, 5),
        (2, False, 3),
    ]
    assert found.gain is not None
    assert found.gain.mean == pytest.approx(0.046)


def test_the_compute_of_a_configuration_counts_the_size_of_its_network() -> None:
    """Fewer pixels of a network of twice the operations, counted at the 256 px that all are evaluated at, are not
    cheaper; where its size is not known they are."""
    spec = SIZES.model_copy(update={"space": {**SIZES.space, "model.name": Spec.model_validate(
        {"study": "s", "space": {"model.name": {"type": "categorical", "choices": ["a", "b"]}}}
    ).space["model.name"]}})  # fmt: skip

    def of(number: int, accuracies: list[float | None], size: int, network: str, macs: int) -> list[TrialRecord]:
        def reported(one: TrialRecord) -> TrialRecord:
            epochs = tuple(
                dataclasses.replace(e, metrics=dataclasses.replace(e.metrics, macs=macs)) for e in one.epochs
            )
            return dataclasses.replace(one, epochs=epochs, values={**one.values, "model.name": network})

        return [reported(one) for one in again(number, accuracies, size=size)]

    large = of(1, [0.90, 0.92, 0.94], 200, "b", 400 * 10**6)
    small = of(2, [0.899, 0.92, 0.939], 256, "a", 164 * 10**6)
    failed = of(3, [None, None, None], 64, "b", 0)
    found = evaluate(spec, [*large, *small, *failed])
    assert found.chosen is not None
    assert found.chosen.trial == 2
    costs = {one.trial: one.compute for one in found.ranking}
    assert costs == {1: pytest.approx(16 * 400e6 * (200 / 256) ** 2), 2: pytest.approx(16 * 164e6), 3: None}
    assert "–" in verdict(found).splitlines()[-1]
    silent = [dataclasses.replace(e, metrics=dataclasses.replace(e.metrics, macs=None)) for e in small[0].epochs]
    without = evaluate(spec, [*large, dataclasses.replace(small[0], epochs=tuple(silent)), *small[1:]])
    assert {one.trial: one.compute for one in without.ranking} == {1: 16 * 200**2, 2: 16 * 256**2}


def test_a_great_difference_is_no_tie_even_if_one_configuration_varies_much() -> None:
    """Three seeds of two configurations alone (p = 0.06) would call 5.8 points chance, and take the cheaper one."""
    found = judged(
        again(12, [0.408, 0.412, 0.417]),
        again(21, [0.405, 0.412, 0.420]),
        again(0, [0.378, 0.347, 0.340], size=128, baseline=True),
    )
    assert stats.ttest_rel([0.408, 0.412, 0.417], [0.378, 0.347, 0.340]).pvalue > 0.05
    assert [(one.trial, one.tied) for one in found.ranking] == [(21, True), (12, True), (0, False)]
    assert found.gain is not None
    assert found.gain.significant


def test_a_cheaper_configuration_is_chosen_if_it_is_not_worse_by_more_than_the_noise_between_seeds() -> None:
    """Trial 1 has the highest mean; 2 follows it from seed to seed, within a tenth of what a seed changes, and trains
    at half the pixels; 3 is cheaper still but worse with every seed. Seconds play no part."""
    found = judged(
        again(1, [0.90, 0.92, 0.94]),
        again(2, [0.899, 0.9185, 0.9405], size=181),
        again(3, [0.85, 0.87, 0.89], size=128),
        again(0, [0.88, 0.899, 0.921], baseline=True),
    )
    assert [(one.trial, one.tied) for one in found.ranking] == [(1, True), (2, True), (0, False), (3, False)]
    assert found.margin == pytest.approx(
        np.sqrt((np.var([0.9, 0.92, 0.94], ddof=1) + np.var([0.899, 0.9185, 0.9405], ddof=1)) / 2)
    )
    assert found.chosen is not None
    assert found.chosen.trial == 2
    assert found.chosen.compute == 16 * 181**2
    assert found.chosen.versus is not None
    assert -found.margin < found.chosen.versus.least < found.chosen.versus.mean < 0
    assert found.gain is not None
    assert found.gain.mean == pytest.approx(0.0193333, abs=1e-6)
    assert found.gain.significant
    text = verdict(found)
    assert "Confirmed: trial 2, mean validation accuracy 91.93 %" in text
    assert "chosen: cheaper, and not worse by more than noise" in text
    assert (
        "Trial 2 is cheaper than trial 1, which has the highest mean, and is certainly not worse by more than" in text
    )
    assert "The noise between seeds is 2.04 points." in text


def test_a_cheaper_configuration_that_only_may_be_as_good_does_not_replace_the_highest_mean() -> None:
    """Trial 2 may be the best too, but three seeds do not exclude that it is worse by more than the noise."""
    found = judged(
        again(1, [0.90, 0.92, 0.94]),
        again(2, [0.91, 0.915, 0.93], size=181),
        again(0, [0.88, 0.91, 0.93], baseline=True),
    )
    assert [one.trial for one in found.ranking if one.tied][:2] == [1, 2]
    assert found.chosen is not None
    assert found.chosen.trial == 1
    assert "chosen: highest mean of 3 that may be the best" in verdict(found)
    assert "; trials 2, 0 may be the best, too" in verdict(found)


def test_two_seeds_give_no_interval_and_no_cheaper_choice() -> None:
    """A real study of CIFAR-100 took 8.0 and 10.6 % instead of 17.4 and 16.4 %, because two seeds prove nothing."""
    found = judged(
        again(7, [0.174, 0.164]), again(3, [0.080, 0.106], size=128), again(0, [0.070, 0.065], size=64, baseline=True)
    )
    assert found.chosen is not None
    assert found.chosen.trial == 7
    assert [one.interval for one in found.ranking] == [None] * 3
    assert [one.versus.interval for one in found.ranking if one.versus] == [None] * 3
    assert (found.gain, found.margin) == (None, None)
    assert found.gain_mean == pytest.approx(0.1015)
    text = verdict(found)
    assert "Confirmed: trial 7, mean validation accuracy 16.90 % over 2 new seeds" in text
    assert "Gain over the baseline (trial 0): +10.15 points (noise unknown: an interval needs 3 seeds)" in text
    assert "(95 % interval" not in text


def test_percentages_end_at_0_and_100_and_differences_at_100_points() -> None:
    found = judged(again(1, [0.99, 0.62, 0.9999]), again(0, [0.02, 0.45, 0.0001], baseline=True))
    for one in found.ranking:
        assert one.interval is not None
        assert 0 <= one.interval.low <= one.interval.mean <= one.interval.high <= 1
        assert one.versus is not None
        assert one.versus.interval is not None
        assert -1 <= one.versus.interval.low <= one.versus.interval.high <= 1
    assert found.gain is not None
    assert found.gain.high <= 1


def test_the_race_spends_no_third_seed_on_what_two_have_decided() -> None:
    """Trial 3 is 30 points behind after two seeds, with a noise of 0.1. It needs no third seed, unlike the baseline."""
    first = [
        again(1, [0.90, 0.901]),
        again(2, [0.899, 0.90]),
        again(3, [0.60, 0.601]),
        again(0, [0.7, 0.7], baseline=True),
    ]
    planned = [
        [dataclasses.replace(one, repeat=dataclasses.replace(one.repeat, seeds=3)) for one in trials]
        for trials in first
    ]
    begun = judged(*planned)
    assert (begun.done, begun.planned, begun.chosen) == (8, 11, None)
    third = again(1, [0, 0, 0.902])[2:] + again(2, [0, 0, 0.901])[2:] + again(0, [0, 0, 0.701], baseline=True)[2:]
    found = judged(*planned, third)
    assert (found.done, found.planned, found.complete) == (11, 11, True)
    last = found.ranking[-1]
    assert (last.trial, last.dropped, last.tied, last.waiting) == (3, 2, False, 0)
    assert "worse: decided after 2 seeds" in verdict(found)
    assert found.chosen is not None
    assert found.chosen.trial == 1
    assert sum(one.chance for one in found.ranking) == pytest.approx(1)
    stored = confirmation_json(found)
    assert stored is not None
    assert [one["dropped_after"] for one in stored["ranking"]] == [None, None, None, 2]


def test_an_objective_of_another_size_and_direction_is_judged_alike() -> None:
    """Losses of a millionth and of a million: choice, verdicts and probabilities are those of accuracies."""
    accuracies = {1: [0.90, 0.92, 0.94], 2: [0.899, 0.9185, 0.9405], 0: [0.85, 0.872, 0.889]}
    expected = judged(*(again(number, own, baseline=number == 0) for number, own in accuracies.items()))
    spec = SIZES.model_copy(update={"objectives": ({"metric": "loss", "direction": "minimize"},)})
    spec = Spec.model_validate(spec.model_dump())
    for scale in (1e-6, 1e6):
        repeats = [
            dataclasses.replace(
                one,
                epochs=tuple(dataclasses.replace(epoch, score=scale * (epoch.value - 2)) for epoch in one.epochs),
            )
            for number, own in accuracies.items()
            for one in again(number, own, baseline=number == 0)
        ]
        found = evaluate(spec, repeats)
        assert found.chosen is not None
        assert found.chosen.trial == 1
        assert [(one.trial, one.tied) for one in found.ranking] == [(one.trial, one.tied) for one in expected.ranking]
        assert [one.chance for one in found.ranking] == pytest.approx(
            [one.chance for one in expected.ranking], abs=0.02
        )
        assert found.gain is not None
        assert expected.gain is not None
        assert found.gain.low == pytest.approx(scale * expected.gain.low, rel=1e-3)
        assert "lower is better" in verdict(found)


def test_the_better_of_two_equally_cheap_configurations_is_chosen() -> None:
    found = judged(again(4, [0.90, 0.92, 0.94]), again(2, [0.91, 0.915, 0.93]))
    assert found.chosen is not None
    assert found.chosen.trial == 4
    assert found.gain is None
    assert "the study has no baseline" in verdict(found)


def test_the_baseline_itself_can_be_chosen() -> None:
    found = judged(again(1, [0.90, 0.92, 0.94]), again(0, [0.90, 0.91, 0.94], size=128, baseline=True))
    assert found.chosen is not None
    assert found.chosen.baseline
    assert "It is the baseline" in verdict(found)


def test_a_configuration_that_fails_with_one_seed_is_not_chosen() -> None:
    found = judged(again(1, [0.99, None, 0.99], size=128), again(2, [0.8, 0.81, 0.8]))
    assert found.chosen is not None
    assert found.chosen.trial == 2
    assert [one.trial for one in found.ranking] == [2, 1]
    none = judged(again(1, [None, None]))
    assert none.chosen is None
    assert "Nothing is confirmed" in verdict(none)


def test_nothing_is_chosen_before_all_repeats_have_ended() -> None:
    waiting = dataclasses.replace(again(2, [0.9, 0.9, 0.9])[2], outcome=None, epochs=())
    found = judged(again(1, [0.90, 0.92, 0.94]), [*again(2, [0.9, 0.9]), waiting])
    assert found.chosen is None
    assert found.gain is None
    assert "5 of 6" in verdict(found)
    stored = confirmation_json(found)
    assert stored is not None
    assert stored["complete"] is False


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
    page = write_report([found], tmp_path)
    for text in (page.read_text(), (tmp_path / "report.md").read_text().replace("\\", "")):
        assert "Trial 1 is confirmed: 81.33 % mean validation accuracy over 3 new seeds" in text
        assert "11.33 points above the baseline." in text
        assert "−1.33 points against mean validation" in text
        assert "chosen: better than others" in text
        assert "paired by seed" in text
