"""Priors: their density, how it fades, and what it does to suggestions."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from scipy.stats import truncnorm

from hpo.search.policies.prior import ANYWHERE, BETA, PriorDensity, fading
from hpo.search.samplers import make_sampler, priors, study_sampler
from hpo.search.unit_cube import UnitCube
from hpo.spec.parameters import Prior
from hpo.validation.loader import parse_spec
from tests.support.sampled_studies import search, study

SPACE: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-4, 1e-1, log=True),
    "layers": IntDistribution(1, 5),
    "batch": IntDistribution(16, 512, log=True),
    "kind": CategoricalDistribution(["a", "b", "c"]),
    "huge": IntDistribution(0, 2**50),
}
PRIORS = {
    "lr": Prior(center=1e-3, confidence="high"),
    "layers": Prior(center=5, confidence="low"),
    "batch": Prior(center=64),
    "kind": Prior(center="b"),
    "huge": Prior(center=7),
}


def test_the_density_of_a_number_is_a_truncated_normal_one_with_a_bit_everywhere() -> None:
    space = UnitCube({"x": FloatDistribution(0, 1)})
    points = np.linspace(0.0005, 0.9995, 1_000)[:, None]
    for center, confidence, deviation in ((0.3, "high", 0.125), (0.0, "medium", 0.25), (0.9, "low", 0.5)):
        prior = Prior.model_validate({"center": center, "confidence": confidence})
        density = PriorDensity(space, {"x": prior})
        normal = truncnorm((0 - center) / deviation, (1 - center) / deviation, center, deviation).pdf(points[:, 0])
        expected = (1 - ANYWHERE) * normal + ANYWHERE
        np.testing.assert_allclose(np.exp(density.log(points)), expected, rtol=1e-3)


@pytest.mark.parametrize("name", SPACE)
def test_a_density_is_one_on_average_and_greatest_at_the_center(name: str) -> None:
    space = UnitCube({name: SPACE[name]})
    density = PriorDensity(space, {name: PRIORS[name]})
    logs = density.log(space.settle(np.linspace(0.00005, 0.99995, 10_000)[:, None]))
    assert np.exp(logs).mean() == pytest.approx(1, abs=0.05), "what integers round away on a log scale"
    assert density.log(density.center)[0] == pytest.approx(logs.max(), abs=1e-3)
    assert np.exp(logs).min() >= ANYWHERE, "nothing is excluded"


def test_placed_points_are_spread_by_the_density() -> None:
    space = UnitCube(SPACE)
    density = PriorDensity(space, PRIORS)
    rows = space.decode(space.settle(density.place(np.random.default_rng(0).random((4_000, len(SPACE))))))
    kinds = Counter(row["kind"] for row in rows)
    assert kinds["b"] / 4_000 == pytest.approx(0.95 * 4 / 6 + 0.05 / 3, abs=0.03)
    assert np.median([row["lr"] for row in rows]) == pytest.approx(1e-3, rel=0.1)
    layers = [count for _, count in sorted(Counter(row["layers"] for row in rows).items())]
    assert layers == sorted(layers), "the center is the largest number"


def test_an_inactive_parameter_has_no_part_in_the_density() -> None:
    density = PriorDensity(UnitCube(SPACE), {name: PRIORS[name] for name in ("lr", "kind")})
    point = density.center.copy()
    point[0, 1] = point[0, 2] = point[0, 4] = 0.5
    without = point.copy()
    without[0, 0] = np.nan
    only_kind = PriorDensity(UnitCube(SPACE), {"kind": PRIORS["kind"]})
    assert density.log(without)[0] == only_kind.log(point)[0]
    assert density.log(point)[0] > density.log(without)[0]


def test_a_prior_fades_with_full_trainings_and_counts_at_most_once() -> None:
    assert [fading(0), fading(BETA), fading(10 * BETA)] == [1, 1, 0.1]


def test_every_second_start_up_trial_follows_the_priors() -> None:
    options: dict[str, Any] = {"seed": 3, "horizon": 50, "startup_trials": 40, "distributions": SPACE}
    given = [one.params for one in _asked(make_sampler("gp", priors=PRIORS, **options), 40)]
    plain = [one.params for one in _asked(make_sampler("gp", **options), 40)]
    assert given[::2] == plain[::2]
    assert np.mean([row["kind"] == "b" for row in given[1::2]]) > 0.5


def _asked(sampler: Any, count: int) -> list[Any]:
    import optuna

    one = optuna.create_study(sampler=sampler)
    return [one.ask(SPACE) for _ in range(count)]


def _suggested(epochs: int, center: float | None) -> float:
    """Where the gp looks next, after 8 trials of so many epochs of 50 whose values rise towards x = 0.8."""
    own: dict[str, Any] = {} if center is None else {"priors": {"x": Prior(center=center, confidence="high")}}
    one = study(
        "gp", startup_trials=0, random_share=0.0, distributions={"x": FloatDistribution(0, 1)}, active=None, **own
    )
    for x in np.linspace(0.05, 0.95, 8):
        value = float(-((x - 0.8) ** 2))
        one.add_trial(
            create_trial(
                state=TrialState.COMPLETE if epochs == 50 else TrialState.PRUNED,
                value=value,
                params={"x": float(x)},
                distributions={"x": FloatDistribution(0, 1)},
                intermediate_values=dict.fromkeys({1, epochs}, value),
            )
        )
    return float(one.ask().suggest_float("x", 0, 1))


def test_a_prior_leads_after_short_trials_and_the_evidence_of_full_ones_outweighs_a_wrong_one() -> None:
    assert _suggested(1, None) == pytest.approx(0.8, abs=0.15)
    assert _suggested(1, 0.2) < 0.5, "the prior leads"
    assert _suggested(50, 0.2) == pytest.approx(0.8, abs=0.15), "the evidence leads"


def test_suggestions_in_a_conditional_space_follow_a_prior_of_the_parameters_that_are_active() -> None:
    plain = search(study("gp", seed=1), 20)
    name = next(name for name, value in plain[0].items() if isinstance(value, float))
    guided = search(study("gp", seed=1, priors={name: Prior(center=plain[0][name], confidence="high")}), 20)
    assert guided != plain
    assert search(study("gp", seed=1, priors={}), 20) == plain


@pytest.mark.parametrize("policy", ["random", "tpe"])
def test_other_policies_than_the_gp_refuse_priors(policy: str) -> None:
    with pytest.raises(ValueError, match="only gp"):
        make_sampler(policy, seed=0, horizon=1, priors=PRIORS)


def test_priors_around_the_baseline_leave_out_what_it_does_not_have_and_give_way_to_the_parameters_own() -> None:
    spec = parse_spec(
        """
study: one
trainer: tests.synthetic:train
space:
  extra.kind: {type: categorical, choices: [a, b], prior: {center: b, confidence: high}}
  extra.rate: {type: float, low: 0, high: 1}
  extra.more: {type: float, low: 0, high: 1, when: {extra.kind: {eq: b}}}
enqueue: [{extra.kind: a, extra.rate: 0.25}]
search: {prior: baseline}
""",
        "study.yaml",
    )
    assert priors(spec) == {"extra.kind": Prior(center="b", confidence="high"), "extra.rate": Prior(center=0.25)}
    assert parse_spec(spec.to_yaml(), "again") == spec
    assert study_sampler(spec) is not None
    assert priors(spec.model_copy(update={"search": spec.search.model_copy(update={"prior": None})})) == {
        "extra.kind": Prior(center="b", confidence="high")
    }
