"""What a study is expected to do before it runs: ASHA's schedule, the heaviest configuration, trials per epoch."""

from __future__ import annotations

import pytest

from hpo.cli.display.dry_run.cost import trials_by_epoch
from hpo.cli.display.dry_run.study import sample
from hpo.driver.gpus.heaviest import heaviest
from hpo.search.forecast import plan
from hpo.spec.study import Spec
from tests.conftest import synthetic_spec


def spec(trials: int = 64, epochs: int = 16, **asha: object) -> Spec:
    return synthetic_spec(
        train={"epochs": epochs, "progressive": {"stages": 4}},
        asha={"reduction_factor": 4, **asha},
        budget={"trials": trials},
    )


def test_every_trial_reaches_the_first_rung_and_fewer_each_further_one() -> None:
    expected = plan(spec())
    assert [(rung.level, rung.epoch) for rung in expected.rungs] == [(1, 1), (4, 4)]
    counts = [rung.reached for rung in expected.rungs] + [expected.complete]
    assert counts[0] == 64
    assert counts == sorted(counts, reverse=True)
    assert 64 / 4 <= counts[1] < 64 / 2, "the asynchronous rule lets some more than a quarter pass"
    assert expected.epochs == pytest.approx(64 + 3 * counts[1] + 12 * counts[2])
    assert expected.share == pytest.approx(expected.epochs / (64 * 16))


def test_many_trials_come_close_to_the_reduction_factor() -> None:
    expected = plan(spec(trials=20_000))
    assert expected.rungs[1].reached / 20_000 == pytest.approx(1 / 4, abs=0.03)
    assert expected.complete / 20_000 == pytest.approx(1 / 16, abs=0.03)


def test_a_single_trial_is_the_baseline_and_completes() -> None:
    assert plan(spec(trials=1)).complete == 1


def test_without_asha_all_train_to_the_end() -> None:
    expected = plan(spec(enabled=False))
    assert (expected.rungs, expected.complete, expected.epochs, expected.share) == ((), 64, 64 * 16, 1.0)


def test_rungs_in_compute_lie_where_the_stages_spend_it() -> None:
    # Sizes 128, 185, 243, 300: an epoch of the first stage counts 0.18, so the first whole unit is spent later.
    (first, *_) = plan(spec(resource="compute")).rungs
    assert first.level == 1
    assert first.epoch == 5


@pytest.mark.parametrize("trials", [1, 8, 100])
def test_trials_by_epoch_add_up_to_the_plan(trials: int) -> None:
    expected = plan(spec(trials=trials))
    by_epoch = trials_by_epoch(expected, 16)
    assert len(by_epoch) == 16
    assert sum(by_epoch) == pytest.approx(expected.epochs)


def test_the_heaviest_configuration_has_the_most_pixels_per_micro_batch() -> None:
    searched = synthetic_spec(
        train={"epochs": 8, "progressive": {"size": {"start": 32}}},
        space={
            "model.name": {"type": "categorical", "choices": ["test_efficientnet", "test_vit"]},
            "train.batch_size": {"type": "categorical", "choices": [16, 64, 32]},
            "train.accumulate": {"type": "int", "low": 1, "high": 4},
            "train.progressive.size.end": {"type": "int", "low": 32, "high": 96, "step": 32},
            "train.lr": {"type": "float", "low": 1e-4, "high": 1e-2},
        },
        enqueue=[],
    )
    found = heaviest(searched)
    assert {config.model.name for config in found} == {"test_efficientnet", "test_vit"}
    for config in found:
        assert (config.train.batch_size, config.train.accumulate) == (64, 1)
        assert config.train.progressive.size.end == 96


def test_samples_are_those_the_study_will_draw(tmp_path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = sample(spec(), str(tmp_path / "a"))
    again = sample(spec(), str(tmp_path / "b"))
    assert [trial.values for trial in first] == [trial.values for trial in again]
    assert [trial.enqueued for trial in first] == [True] + [False] * 5
    assert len({trial.values["extra.quality"] for trial in first}) == 6


def test_no_more_configurations_are_shown_than_the_budget_has_trials(tmp_path) -> None:
    assert [trial.enqueued for trial in sample(spec(trials=3), str(tmp_path))] == [True, False, False]
