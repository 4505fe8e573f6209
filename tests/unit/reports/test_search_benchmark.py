"""The virtual-time benchmark of the search policies, on curves simple enough to check by hand."""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import pytest
from optuna import load_study
from optuna.distributions import FloatDistribution

from hpo.search.policies import history
from hpo.search.policies.curve_gp import CurveGPSampler
from hpo.search.policies.seeded import SamplerOptions, SeededSampler
from hpo.search.samplers import make_sampler
from hpo.validation.loader import load_spec
from reports.benchmarks.search import bounds, crowd, page, priors
from reports.benchmarks.search import latency as search_latency
from reports.benchmarks.search.landing.search import LandingSearch
from reports.benchmarks.search.lcbench import EPOCHS, Curve
from reports.benchmarks.search.simulation import AheadSearch, OwnSearch, StockSearch, simulate
from reports.benchmarks.search.summary import SHARES, summarize
from reports.benchmarks.search.virtual_time import Incumbents, Run


class Peak:
    """Accuracy rises to 1 - |x - 0.3|, one epoch takes a second."""

    name = "peak"
    distributions: ClassVar = {"x": FloatDistribution(0.0, 1.0)}
    full_training = float(EPOCHS)

    def curve(self, params: Mapping[str, Any]) -> Curve:
        epochs = np.arange(1.0, EPOCHS + 1)
        return Curve(epochs, (1 - abs(params["x"] - 0.3)) * (1 - 0.5 / epochs))

    def finals(self, configurations: Sequence[Mapping[str, Any]]) -> np.ndarray:
        return np.array([self.curve(params).accuracy[-1] for params in configurations])

    def regret(self, accuracy: float) -> float:
        return (0.99 - accuracy) / 0.25


class Recorded:
    """A search that lets every trial run to its end and remembers what it was told."""

    def __init__(self) -> None:
        self.reports: list[tuple[int, int, float]] = []

    def suggest(self, trial: int) -> Mapping[str, Any]:
        return {"x": 0.3 + 0.05 * (5 - trial)}

    def report(self, trial: int, epoch: int, value: float) -> bool:
        self.reports.append((trial, epoch, value))
        return epoch < EPOCHS


def test_sixteen_full_trainings_on_four_workers_are_the_budget() -> None:
    recorded = Recorded()
    run = simulate(Peak(), recorded)
    assert len(recorded.reports) == 16 * EPOCHS
    assert {trial for trial, _, _ in recorded.reports} == set(range(16))
    assert [epoch for trial, epoch, _ in recorded.reports if trial == 9] == list(range(1, EPOCHS + 1))
    assert run.trials == 20, "the last four begin when the budget is spent"
    assert run.regret_at(0.001) == 1.0
    # Trial 3 is the best of the first four, trial 5 has the peak and begins at a quarter of the budget.
    final = 1 - 0.5 / EPOCHS
    assert run.known.regret_at(0.25) == pytest.approx((0.99 - 0.9 * final) / 0.25)
    assert run.known.regret_at(1.0) == pytest.approx(0.0)


class Returning(Recorded):
    """It stops trial 0 after 10 epochs, takes it up as soon as half of the budget is spent, and begins no others."""

    def __init__(self) -> None:
        super().__init__()
        self.left: list[float] = []
        self.spent: dict[int, float] = dict.fromkeys(range(100), 0.0)

    def take_up(self, left: float) -> int | None:
        self.left.append(left)
        return 0 if left <= 100 and self.left[-2] > 100 else None

    def spend(self, trial: int, seconds: float, left: float) -> None:
        self.spent[trial] += seconds

    def report(self, trial: int, epoch: int, value: float) -> bool:
        super().report(trial, epoch, value)
        return epoch < EPOCHS and not (trial == 0 and epoch == 10)


def test_a_trial_that_is_taken_up_goes_on_where_it_stopped_and_costs_only_the_rest() -> None:
    returning = Returning()
    simulate(Peak(), returning)
    budget = 4.0 * EPOCHS
    assert returning.left[:5] == [budget] * 4 + [budget - 10]
    assert [epoch for trial, epoch, _ in returning.reports if trial == 0] == list(range(1, EPOCHS + 1))
    assert returning.spent[0] == EPOCHS, "the last epochs were paid when it was taken up, the first ones before"
    assert sum(returning.spent.values()) == len(returning.reports), "an epoch costs a second"


def test_landing_finishes_trials_that_asha_stopped_and_delivers_them() -> None:
    search = LandingSearch(CurveGPSampler(SamplerOptions(seed=3, horizon=EPOCHS, distributions=Peak.distributions)))
    run = simulate(Peak(), search, full_trainings=6)
    assert search.taken_up, "in this study, landing takes up a trial"
    for number in search.taken_up:
        assert search.trials[number].complete
        assert [epoch.metrics.epoch for epoch in search.trials[number].epochs] == list(range(1, EPOCHS + 1))
    assert run.trials == len(search.trials), "a trial that is taken up is no new one"


def test_a_simulated_search_delivers_only_what_it_has_trained_to_the_end() -> None:
    run = simulate(Peak(), Recorded())
    best_of_four = (0.99 - 0.9 * (1 - 0.5 / EPOCHS)) / 0.25
    assert run.known.regret_at(0.24) == pytest.approx(best_of_four)
    assert run.delivered.regret_at(0.24) == 1.0, "the first four are not complete"
    assert run.delivered.regret_at(0.25) == pytest.approx(best_of_four)
    # Trial 5 has the peak. Its value soon exceeds the complete ones, but it is complete at half of the budget.
    assert run.known.regret_at(0.49) == pytest.approx(0.0)
    assert run.delivered.regret_at(0.49) == pytest.approx(best_of_four)
    assert run.delivered.regret_at(0.50) == pytest.approx(0.0)


@pytest.mark.parametrize("policy", ["random", "stock"])
def test_simulated_searches_stop_weak_trials_early(policy: str) -> None:
    task = Peak()
    sampler = make_sampler("random", seed=0, horizon=EPOCHS, distributions=task.distributions)
    search_policy = StockSearch(0, task.distributions) if policy == "stock" else OwnSearch(sampler, task.distributions)
    run = simulate(task, search_policy)
    assert run.trials > 60, "unpruned there would be twenty"
    for incumbents in (run.known, run.delivered):
        assert (np.diff(incumbents.times) >= 0).all()
        assert incumbents.times[-1] <= 1
        assert incumbents.regret_at(1.0) < 0.2
    assert len(run.suggestion_seconds) == run.trials


def test_four_workers_find_the_same_whether_suggestions_may_be_made_ahead_or_not() -> None:
    task, runs = Peak(), []
    for ahead in (False, True):
        sampler = make_sampler("gp", seed=0, horizon=EPOCHS, distributions=task.distributions)
        assert isinstance(sampler, SeededSampler)
        search = AheadSearch(sampler) if ahead else OwnSearch(sampler, task.distributions)
        runs.append(simulate(task, search, full_trainings=4))
        if isinstance(search, AheadSearch):
            search.close()
    assert runs[0].trials == runs[1].trials
    assert runs[0].known.regrets.tolist() == runs[1].known.regrets.tolist()


def test_the_gp_finds_a_simple_peak_better_than_random_search() -> None:
    task = Peak()

    def final(policy: str, seed: int) -> float:
        sampler = make_sampler(policy, seed=seed, horizon=EPOCHS, distributions=task.distributions)
        return simulate(task, OwnSearch(sampler, task.distributions)).known.regret_at(1.0)

    assert final("gp", 0) < final("random", 0)


def flat(*finals: float) -> list[Run]:
    """Runs whose known regret is 1 until half of the budget, then final; delivered is 0.5 more, at the end."""
    return [
        Run(
            Incumbents(np.array([0.0, 0.5]), np.array([1.0, final])),
            Incumbents(np.array([1.0]), np.array([final + 0.5])),
            10,
            np.array([0.1]),
        )
        for final in finals
    ]


def test_the_summary_of_searches_equals_a_calculation_by_hand() -> None:
    summaries = summarize(
        {
            "random": {"a": flat(0.2, 0.4), "b": flat(0.6, 0.8)},
            "stock": {"a": flat(0.5, 0.5), "b": flat(0.5, 0.5)},
            "gp": {"a": flat(0.1, 0.1), "b": flat(0.9, 0.9)},
        }
    )
    random, stock, gp = (summary.regret["known"] for summary in summaries)
    assert random.at[1.0].mean == pytest.approx(0.5)
    assert random.at[1.0].error == pytest.approx(np.std([0.3, 0.7], ddof=1) / math.sqrt(2))
    assert random.at[0.2].mean == 1.0
    assert random.minus_baseline is None
    assert random.curve[SHARES < 0.5].tolist() == [1.0] * 49
    assert stock.reaches_stock_at == 0.5
    assert gp.minus_baseline is not None
    assert gp.minus_baseline.overall.mean == pytest.approx(0.0)
    assert gp.minus_baseline.by_task["a"].mean == pytest.approx(-0.2)
    assert gp.minus_baseline.worse_tasks() == [], "0.2 worse on b, with an error of 0.1"
    assert gp.minus_reference is None, "it is the reference"
    assert stock.minus_reference is not None
    assert stock.minus_reference[1.0].mean == pytest.approx(0.0)
    assert stock.minus_reference[1.0].error == pytest.approx(np.std([0.4, -0.4], ddof=1) / math.sqrt(2))
    delivered = summaries[0].regret["delivered"]
    assert [estimate.mean for estimate in delivered.at.values()] == pytest.approx([1.0, 1.0, 1.0])
    assert delivered.by_task == pytest.approx({"a": 0.8, "b": 1.2})
    worse = summarize({"random": {"b": flat(0.6, 0.61)}, "gp": {"b": flat(0.9, 0.9)}})[1].regret["known"]
    assert worse.minus_baseline is not None
    assert worse.minus_baseline.worse_tasks() == ["b"]
    assert worse.reaches_stock_at is None


def test_suggestions_are_timed_in_a_shipped_conditional_study(capsys: pytest.CaptureFixture[str]) -> None:
    spec = load_spec("cifar10")
    storage = search_latency.filled(spec, 40)
    study = load_study(study_name=spec.study, storage=storage)
    states = Counter(trial.state.name for trial in study.trials)
    assert states["RUNNING"] == search_latency.RUNNING
    assert states["PRUNED"] > states["COMPLETE"] > 0
    assert {len(trial.params) for trial in study.trials} == {7, 8, 9}, "the condition holds for some"
    assert search_latency.main(["--spec", "cifar10", "--trials", "20"]) == 0
    text = capsys.readouterr().out
    assert "9 parameters, 2 of them conditional; 20 trials" in text
    assert all(f"| {policy} | " in text for policy in ("random", "tpe", "gp"))


def test_the_table_and_the_record_of_searches_contain_every_policy(tmp_path: Path) -> None:
    runs = {"random": {"a": flat(0.2, 0.4)}, "stock": {"a": flat(0.3, 0.3)}, "gp": {"a": flat(0.1, 0.2)}}
    summaries = summarize(runs)
    many = {"random": 0.001, "gp": 0.2}
    text = page.table(summaries, many, ["a"], seeds=2, log=False)
    assert "| gp | 1.000 ± nan | 0.150 ± nan | 0.150 ± nan | 50% |" in text
    assert "| gp | 1.000 ± nan | 1.000 ± nan | 0.650 ± nan | 100% |" in text
    assert "| random minus gp | 0.000 ± nan | 0.150 ± nan | 0.150 ± nan | |" in text
    assert "| a | 0.800 / 0.300 | 0.800 / 0.300 | 0.650 / 0.150 |" in text
    assert "200 ms" in text
    page.plot(summaries, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000
    record = json.loads(json.dumps(page.record(summaries, runs, many, seeds=2, log=False)))
    assert record["policies"]["gp"]["known"]["runs"] == {"a": [[1.0, 0.1, 0.1], [1.0, 0.2, 0.2]]}
    assert record["policies"]["gp"]["delivered"]["runs"] == {"a": [[1.0, 1.0, 0.6], [1.0, 1.0, 0.7]]}


def test_onnxruntime_is_imported_only_with_the_surrogate() -> None:
    code = "import reports.benchmarks.search.comparison, sys; print('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_samplers_with_and_without_bounds_get_the_same_trials_and_differ_in_what_they_see() -> None:
    before = bounds.beginning(Peak(), 40, seed=0)  # type: ignore[arg-type]
    assert Counter(len(trial.values) for trial in before) == {4: 20, 16: 10, EPOCHS: 10}
    seen = []
    for bounded in (False, True):
        with mock.patch.object(history, "MAX_ENDED", 30), bounds._bounds(bounded):
            sampler = make_sampler("tpe", seed=0, horizon=EPOCHS, distributions=Peak().distributions)
            assert isinstance(sampler, SeededSampler)
            known = sampler.history()
            known.take_in(before)
            seen.append(len(known.spread_over_numbers().trials))
    assert seen[0] == 40
    assert seen[1] <= 30


def test_pairs_with_and_without_suggestions_made_ahead_are_compared_over_tasks() -> None:
    options = argparse.Namespace(policy="gp", workers=64, full_trainings=64.0)
    pairs = [
        crowd.Pair(task, 0, [9, 9], [[0.5, 0.2, 0.1], [0.5 + gain, 0.2, 0.1]], 1.0)
        for task, gain in (("2", 0.1), ("10", 0.3))
    ]
    assert "| difference | 0.200 ± 0.100 | 0.000 ± 0.000 | 0.000 ± 0.000 |" in crowd.table(pairs, options)
    assert [row["task"] for row in json.loads(crowd.document(pairs, options))["pairs"]] == ["2", "10"]


def test_priors_of_a_good_a_vague_and_a_wrong_mind_lie_where_they_should() -> None:
    task: Any = Peak()
    task.name = "1"
    kinds = priors.priors_of(task, 0)
    centers = {kind: of["x"].center for kind, of in kinds.items() if of}
    assert kinds["none"] == {}
    assert centers["good"] == pytest.approx(0.3, abs=0.01)
    assert abs(centers["blurred"] - centers["good"]) == pytest.approx(priors.SHIFT)
    assert centers["wrong"] == pytest.approx(1.0, abs=0.01)
    assert [kinds[kind]["x"].confidence for kind in ("good", "blurred", "wrong")] == ["high", "low", "high"]


def test_studies_with_and_without_priors_are_compared_over_tasks() -> None:
    def regrets(known: float) -> dict[str, list[float]]:
        return {"known": [known] * len(priors.SHARES), "delivered": [1.0] * len(priors.SHARES)}

    results = [
        priors.Result(task, seed, 0.5, {}, {"none": regrets(0.5), "good": regrets(0.5 - gain)})
        for task, gain in (("2", 0.1), ("10", 0.3))
        for seed in (0, 1)
    ]
    table = priors.table(results)
    assert "| good, beta 0.5, minus none | -0.200 ± 0.100 |" in table
    assert "2 tasks, 4 pairs of task and seed" in table
    assert [row["task"] for row in json.loads(priors.document(results))["results"]] == ["2", "2", "10", "10"]
