"""Sampled configurations stay in bounds, conditions hold, and the trainer's configuration follows."""

from __future__ import annotations

import dataclasses
import logging

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.search.distributions import distributions, suggest
from hpo.spec.configure import configure
from hpo.spec.corners import can_hold, corners, representative_values
from hpo.spec.parameters import CategoricalParameter, Condition, FloatParameter, IntParameter, Parameter, first_values
from trainers.api import SizeRamp, TrialConfig

optuna.logging.set_verbosity(logging.WARNING)

NUMBERS = st.floats(min_value=1e-6, max_value=1e6, allow_nan=False, width=64)


@st.composite
def parameters(draw: st.DrawFn, earlier: dict[str, Parameter]) -> Parameter:
    when = {}
    if earlier and draw(st.booleans()):
        other = draw(st.sampled_from(sorted(earlier)))
        values = representative_values(earlier[other], [])
        if isinstance(earlier[other], CategoricalParameter):
            when = {other: Condition(in_=tuple(draw(st.lists(st.sampled_from(values), min_size=1))))}
        else:
            test = draw(st.sampled_from(["ge", "gt", "le", "lt", "eq", "ne"]))
            when = {other: Condition(**{test: draw(st.sampled_from(values))})}
    kind = draw(st.sampled_from(["float", "log", "grid", "int", "logint", "categorical"]))
    if kind == "categorical":
        scalar = st.one_of(st.booleans(), st.integers(-9, 9), st.text(max_size=3))
        choices = draw(st.lists(scalar, min_size=1, max_size=4, unique_by=lambda choice: (choice, type(choice))))
        return CategoricalParameter(type="categorical", choices=tuple(choices), when=when)
    if kind in ("int", "logint"):
        low, step = draw(st.integers(1, 50)), draw(st.integers(1, 5)) if kind == "int" else 1
        high = low + step * draw(st.integers(0, 20))
        return IntParameter(type="int", low=low, high=high, step=step, log=kind == "logint", when=when)
    low = draw(NUMBERS)
    if kind == "grid":
        low, step = draw(st.integers(0, 10)) / 10, draw(st.sampled_from([0.05, 0.1, 0.25, 1.5]))
        high = round(low + step * draw(st.integers(0, 20)), 10)
        return FloatParameter(type="float", low=low, high=high, step=step, when=when)
    return FloatParameter(type="float", low=low, high=low + draw(NUMBERS), log=kind == "log", when=when)


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, Parameter]:
    space: dict[str, Parameter] = {}
    for index in range(draw(st.integers(1, 5))):
        space[f"extra.p{index}"] = draw(parameters(space))
    return space


@settings(max_examples=60, deadline=None)
@given(space=spaces(), seed=st.integers(0, 2**31))
def test_samples_stay_in_bounds_and_conditions_hold(space: dict[str, Parameter], seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    wanted = distributions(space)
    for _ in range(3):
        trial = study.ask()
        values = suggest(trial, space)
        assert trial.params == values
        for name, parameter in space.items():
            holds = all(
                other in values and condition.holds(values[other]) for other, condition in parameter.when.items()
            )
            assert (name in values) == holds == parameter.is_active(values)
            if holds:
                assert parameter.contains(values[name])
                assert trial.distributions[name] == wanted[name]
        config = configure(TrialConfig(), values)
        assert config.extra == {name.removeprefix("extra."): value for name, value in values.items()}


@settings(max_examples=60, deadline=None)
@given(space=spaces(), seed=st.integers(0, 2**31))
def test_a_condition_that_holds_for_a_sample_is_never_called_impossible(space: dict[str, Parameter], seed: int) -> None:
    """No sample passes a condition that is said to be impossible, and every parameter of a corner fits."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for _ in range(5):
        values = suggest(study.ask(), space)
        for parameter in space.values():
            for other, condition in parameter.when.items():
                if other in values and condition.holds(values[other]):
                    assert can_hold(condition, space[other])
    for corner in [first_values(space), *corners(space).combinations]:
        for name, parameter in space.items():
            assert (name in corner) == parameter.is_active(corner)
            assert name not in corner or parameter.contains(corner[name])


@pytest.mark.parametrize(
    ("tests", "possible"),
    [
        ({"ge": 4}, True),
        ({"gt": 4}, False),
        ({"gt": 3}, True),
        ({"gt": 1, "lt": 3, "ne": 2}, False),
        ({"gt": 1, "lt": 4, "ne": 2}, True),
        ({"in": (0, 7)}, False),
        ({"eq": 2.0}, True),
        ({"eq": 2.5}, False),
        ({"eq": "2"}, False),
        ({"eq": True}, False),
        ({"ne": 1}, True),
    ],
)
def test_can_hold_judges_conditions_on_whole_numbers(tests: dict[str, object], possible: bool) -> None:
    stages = IntParameter(type="int", low=1, high=4)
    assert can_hold(Condition.model_validate(tests), stages) is possible


def test_can_hold_judges_conditions_on_real_numbers_and_choices() -> None:
    rate = FloatParameter(type="float", low=0, high=1)
    assert can_hold(Condition(gt=0.3, lt=0.31), rate)
    assert not can_hold(Condition(gt=0.3, lt=0.3), rate)
    assert not can_hold(Condition(gt=1), rate)
    grid = FloatParameter(type="float", low=0, high=1, step=0.1)
    assert can_hold(Condition(ge=0.3, le=0.3), grid)
    assert not can_hold(Condition(gt=0.3, lt=0.4), grid)
    assert Condition(eq=0.3).holds(3 * 0.1)  # what Optuna makes of the third step
    choices = CategoricalParameter(type="categorical", choices=("sgd", "adamw", None, True))
    assert can_hold(Condition(in_=(None, "x")), choices)
    assert not can_hold(Condition(ge=1), choices)
    assert not can_hold(Condition(eq=1), choices)


def test_enqueued_values_are_drawn_as_given() -> None:
    space = {
        "train.progressive.stages": IntParameter(type="int", low=1, high=4),
        "train.progressive.size.start": IntParameter(
            type="int", low=128, high=256, step=32, when={"train.progressive.stages": Condition(ge=2)}
        ),
    }
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for wanted in ({"train.progressive.stages": 1}, dict(zip(space, (3, 160), strict=True))):
        study.enqueue_trial(wanted)
        assert suggest(study.ask(), space) == wanted


def test_configure_sets_nested_fields_together() -> None:
    base = TrialConfig()
    values = {
        "train.lr": 0.01,
        "train.progressive.size.start": 320,
        "train.progressive.size.end": 384,
        "model.name": "resnet18",
        "extra.width": 3,
    }
    config = configure(base, values)
    assert config.train.progressive.size == SizeRamp(start=320, end=384)
    assert (config.train.lr, config.model.name, config.extra) == (0.01, "resnet18", {"width": 3})
    assert dataclasses.replace(config.train, lr=1e-3, progressive=base.train.progressive) == base.train
    assert base == TrialConfig()


def test_configure_refuses_what_breaks_a_rule() -> None:
    with pytest.raises(ValueError, match="shrink"):
        configure(TrialConfig(), {"train.progressive.size.start": 320})
    with pytest.raises(ValueError, match="number"):
        configure(TrialConfig(), {"train.lr": -1.0})
    with pytest.raises(KeyError, match="momentun"):
        configure(TrialConfig(), {"train.momentun": 0.5})
