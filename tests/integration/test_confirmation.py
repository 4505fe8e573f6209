"""What a confirmation concludes, compared with results by hand and with scipy's own tests."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from scipy import optimize, special, stats

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
from hpo.results.paired_tests import Difference, differences, interval
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


def test_the_interval_of_a_mean_is_the_one_computed_by_hand() -> None:
    """Mean 0.92, standard deviation 0.01, t(2) = 4.3027: half of it is 4.3027 * 0.01 / sqrt(3) = 0.024841."""
    found = interval([0.91, 0.92, 0.93])
    assert (found.mean, found.low, found.high) == pytest.approx((0.92, 0.895159, 0.944841), abs=1e-6)
    with pytest.raises(ValueError, match="two values"):
        interval([0.9])


def between(first: Sequence[float], *others: Sequence[float]) -> list[Difference]:
    """Differences of accuracies that share all their seeds."""
    found = differences(dict(enumerate(first)), [dict(enumerate(one)) for one in others])
    return [one for one in found if one is not None]


def test_the_paired_test_agrees_with_a_computation_by_hand_and_with_scipy() -> None:
    """Differences 1, 2, 3: t = 2 / (1 / sqrt(3)) = 3.4641 with two degrees of freedom, p = 0.0742."""
    assert between([2, 4, 6], [1, 2, 3])[0].p == pytest.approx(0.07418, abs=1e-5)
    assert between([0.5, 0.7], [0.5, 0.7])[0].p == 1
    assert between([0.6, 0.8], [0.5, 0.7])[0].p < 0.001, "a gap without any spread is no chance"
    assert between([0.7001, 0.8], [0.7, 0.7999])[0].p > 0.05, "but for one as small as its rounding"
    rng = random.Random(0)
    for size in range(2, 9):
        a, b = ([rng.gauss(0.9, 0.01) for _ in range(size)] for _ in "ab")
        expected = stats.ttest_rel(a, b)
        low, high = expected.confidence_interval()
        (found,) = between(a, b)
        assert found.p == pytest.approx(expected.pvalue)
        assert (found.interval.low, found.interval.high) == pytest.approx((low, high))
        low, high = stats.t.interval(0.95, size - 1, fmean(a), stats.sem(a))
        assert (interval(a).low, interval(a).high) == pytest.approx((low, high))


def test_differences_are_over_the_seeds_in_common() -> None:
    """Whatever the others have more; one seed in common says nothing."""
    first, second = {0: 0.90, 1: 0.92, 2: 0.94, 3: 0.1}, {1: 0.90, 2: 0.91, 7: 0.9}
    found = differences(first, [second, {3: 0.5, 9: 0.5}, {}])
    assert found[1:] == (None, None)
    assert found[0] == between([0.92, 0.94], [0.90, 0.91])[0]


def test_variances_move_towards_each_other_as_far_as_they_are_alike() -> None:
    """Smyth's estimator by hand. Variances 1e-4 and 4e-4 at two degrees of freedom: their logarithms lie no further
    apart than chance (variance 0.961 < trigamma(1) = 1.645), so that both are 2.5e-4, at 4 * 4 / 5 degrees. And 1e-4
    and 1e-2: variance 10.60 of the logarithms, 8.96 in excess of chance, of which trigamma(x) = 8.96 at x = 0.3668."""
    spread = [0.0, 0.01, 0.02]  # variance 1e-4
    alike = between([0, 0, 0], spread, [2 * one for one in spread])
    assert [one.variance for one in alike] == pytest.approx([2.5e-4, 2.5e-4])
    assert [one.freedom for one in alike] == pytest.approx([3.2, 3.2])
    unlike = between([0, 0, 0], spread, [10 * one for one in spread])
    half = optimize.brentq(lambda x: special.polygamma(1, x) - (math.log(100) ** 2 / 2 - math.pi**2 / 6), 0.01, 9)
    common = math.exp(math.log(1e-3) - special.digamma(1) + special.digamma(half) - math.log(half))
    assert [one.variance for one in unlike] == pytest.approx(
        [(2 * half * common + 2 * own) / (2 * half + 2) for own in (1e-4, 1e-2)]
    )
    assert [one.freedom for one in unlike] == pytest.approx([2 * half + 2] * 2)


def test_equal_configurations_are_rarely_told_apart() -> None:
    """Four in a hundred to eight, whether they scatter alike or one of them five times as much as another."""
    rng = np.random.default_rng(0)
    for scatter in ([1, 1, 1, 1], [1, 0.4, 1, 2]):
        told = [
            between(*(rng.normal(0.9, 0.004 * np.array(scatter)[:, None], (4, 3)) + rng.normal(0, 0.01, 3)).tolist())[
                0
            ].p
            < 0.05
            for _ in range(600)
        ]
        assert 0.01 < fmean(told) < 0.09


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
    small = of(2, [0.91, 0.915, 0.93], 256, "a", 164 * 10**6)
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


def test_the_tied_configuration_with_the_least_compute_is_chosen() -> None:
    """Trial 1 has the highest mean; 2 differs from it by chance only and trains at half the pixels; 3 is cheaper still
    but worse with every seed. Seconds play no part."""
    found = judged(
        again(1, [0.90, 0.92, 0.94]),
        again(2, [0.91, 0.915, 0.93], size=181),
        again(3, [0.85, 0.87, 0.89], size=128),
        again(0, [0.88, 0.91, 0.93], baseline=True),
    )
    assert [(one.trial, one.tied) for one in found.ranking] == [(1, True), (2, True), (0, False), (3, False)]
    assert found.chosen is not None
    assert found.chosen.trial == 2
    assert found.chosen.compute == 16 * 181**2
    assert found.gain is not None
    assert found.gain.mean == pytest.approx(0.011667, abs=1e-6)
    assert not found.gain.significant
    text = verdict(found)
    assert "Confirmed: trial 2, mean validation accuracy 91.83 %" in text
    assert "chosen: cheapest of 2 tied" in text
    assert "it includes zero" in text


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
