"""What a confirmation concludes, compared with results by hand and with scipy's own tests."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from hpo.ledger.records import TrialRecord
from hpo.results.confirmation import Confirmation, evaluate
from hpo.results.confirmation_text import confirmation_json, lines, rows
from hpo.spec.study import Spec
from tests.support.repeats import SIZES, again, judged


def verdict(confirmation: Confirmation) -> str:
    """The sentences and the cells of the table."""
    return "\n".join([*lines(confirmation), *("  ".join(row) for row in rows(confirmation))])


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
    assert "Gain over the baseline (trial 0): +10.15 points (an interval needs 3 seeds)" in text
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
