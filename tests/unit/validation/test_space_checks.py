"""Broken rules of a search space, its conditions and the enqueued configurations, one at a time."""

from __future__ import annotations

import pytest

from hpo.spec.parameters import Condition
from hpo.validation.loader import parse_spec
from tests.support.specifications import GOOD, TRAINER, only, problems

SPACE_BROKEN = [
    ("train.momentum: {type: float, low: 0.9, high: 0.1}", ".low", "at most high", "low: 0.1 and high: 0.9"),
    ("train.weight_decay: {type: float, low: 0, high: 1, log: true}", ".low", "> 0 for a logarithmic", "remove log"),
    ("train.weight_decay: {type: float, low: -1, high: 1}", ".low", ">= 0, like train.weight_decay", None),
    ("train.progressive.dropout.end: {type: float, low: 0, high: 1.5}", ".high", "< 1, like train", None),
    ("train.clip_grad: {type: float, low: 0, high: 1, step: 0.3}", ".step", "divide high - low", "high: 0.9"),
    (
        "train.clip_grad: {type: float, low: 1, high: 2, step: 0.5, log: true}",
        ".step",
        "cannot be combined with log",
        None,
    ),
    ("train.clip_grad: {type: float, low: 1, high: 2, step: 0}", ".step", "> 0", None),
    ("train.accumulate: {type: int, low: 1, high: 4, step: 2}", ".step", "divide high - low", "high: 3"),
    ("train.accumulate: {type: int, low: 1, high: 2.5}", ".high", "whole number", None),
    ("train.accumulate: {type: float, low: 1, high: 2}", ".type", "must be a whole number", "use type: int"),
    ("extra.a: {type: int, low: 0, high: 9007199254740993}", ".high", "between -4.5036e+15 and 4.5036e+15", None),
    ("extra.a: {type: float, low: -1e308, high: 1}", ".low", "between -1e+100 and 1e+100", None),
    ("extra.a: {type: float, low: 1, high: 1.0000000001}", ".high", "must equal low, or be larger by at least", None),
    ("train.accumulate: {type: int, low: 1}", ".high", "is required", None),
    ("train.accumulate: {type: itn, low: 1, high: 2}", ".type", "float, int or categorical", "did you mean int?"),
    ("train.accumulate: {low: 1, high: 2}", ".type", "float, int or categorical", None),
    (
        "train.accumulate: {type: int, low: 1, high: 2, setp: 1}",
        ".setp",
        "unknown key",
        "did you mean space.train.accumulate.step?",
    ),
    ("train.optimizer: {type: categorical, choices: []}", ".choices", "at least one choice", None),
    ("train.optimizer: {type: categorical, choices: [sgd, adamw, sgd]}", ".choices[2]", "appears twice", None),
    ("train.optimizer: {type: categorical, choices: [sgd, 3]}", ".choices[1]", "must be adamw, sgd", None),
    ("train.compile: {type: int, low: 0, high: 1}", ".type", "true or false", None),
    ("train.lrr: {type: float, low: 0.1, high: 1}", "", "not a setting", "did you mean train.lr?"),
    ("momentum: {type: float, low: 0.1, high: 0.5}", "", "not a setting", "did you mean train.momentum?"),
    ("train.ema: {type: float, low: 0.1, high: 0.5}", "", "group of settings", "train.ema.decay"),
    ("data.split_seed: {type: int, low: 0, high: 3}", "", "cannot be searched", None),
    ("train.epochs: {type: int, low: 1, high: 3}", "", "cannot be searched", None),
    ("train.progressive.sizes: {type: int, low: 32, high: 64}", "", "cannot be searched", None),
    ("extra.a-b: {type: int, low: 1, high: 3}", "", "identifier", None),
    (
        "train.momentum: {type: float, low: 0, high: 0.9, when: {train.l: {gt: 0}}}",
        ".when.train.l",
        "not a param",
        None,
    ),
    ("train.momentum: {type: float, low: 0, high: 0.9, when: {train.lr: {gt: 1}}}", ".when.train.lr", "never", None),
    ("train.momentum: {type: float, low: 0, high: 0.9, when: {train.lr: {}}}", ".when.train.lr", "at least one", None),
    (
        "train.momentum: {type: float, low: 0, high: 0.9, when: {train.momentum: {gt: 0}}}",
        ".when.train.momentum",
        "itself",
        None,
    ),
    (
        "train.warmup_epochs: {type: float, low: 0, high: 50}",
        "",
        "must be less than train.epochs",
        "train.warmup_epochs = 50",
    ),
    (
        "train.momentum: {type: float, low: 0, high: 0.9, prior: {center: 1}}",
        ".prior.center",
        "number from 0 to 0",
        None,
    ),
    (
        "train.accumulate: {type: int, low: 1, high: 4, prior: {center: 2.5}}",
        ".prior.center",
        "outside the space",
        None,
    ),
    ("train.optimizer: {type: categorical, choices: [sgd], prior: {center: adamw}}", ".prior.center", "outside", None),
    ("train.momentum: {type: float, low: 0, high: 0.9, prior: {}}", ".prior.center", "is required", None),
    (
        "train.momentum: {type: float, low: 0, high: 0.9, prior: {center: 0.5, confidence: hihg}}",
        ".prior.confidence",
        "low, medium or high",
        "did you mean high?",
    ),
    ("train.score: {type: categorical, choices: [raw, ema]}", "", "decay is 0", "train.score = ema"),
    ("train.progressive.stages: {type: int, low: 1, high: 16}", None, "", None),
    ("train.progressive.size.start: {type: int, low: 64, high: 320}", "", "shrink", "size.start = 320"),
]


@pytest.mark.parametrize(("line", "below", "rule", "hint"), SPACE_BROKEN)
def test_one_broken_rule_of_the_space_is_one_problem(line: str, below: str | None, rule: str, hint: str | None) -> None:
    text = f"{GOOD}  {line}\n"
    if below is None:
        parse_spec(text, "study.yaml")
        return
    problem = only(text)
    # A rule between settings names the group; the parameter at fault is inside it.
    assert problem.path.startswith(f"space.{line.partition(':')[0]}{below}")
    assert rule in problem.rule
    assert problem.line == 5
    assert hint is None or hint in str(problem.hint)


ENQUEUE_BROKEN = [
    ("{train.lr: 0.1}", "enqueue[0].train.lr", "outside the space: must be a number from 0.0001 to 0.01"),
    ("{train.lr: fast}", "enqueue[0].train.lr", "outside the space"),
    ("{}", "enqueue[0]", "must also give train.lr"),
    ("{train.lr: 0.001, train.lrr: 1}", "enqueue[0].train.lrr", "not a parameter of the space"),
    ("{train.lr: 0.001, train.momentum: 0.3}", "enqueue[0].train.momentum", "not active"),
    ("{train.lr: 0.005}", "enqueue[0]", "must also give train.momentum"),
    ("3", "enqueue[0]", "must be a mapping"),
    ("{train.lr: 0.001, train.optimizer: adam}", "enqueue[0].train.optimizer", "must be adamw, sgd, rmsprop, lamb"),
    ("{train.lr: 0.001, train.epochs: 3}", "enqueue[0].train.epochs", "cannot be set here: all trials have the same"),
    ("{train.lr: 0.001, data.name: shapes}", "enqueue[0].data.name", "cannot be set here: all trials need the same"),
    ("{train.lr: 0.001, label: 3}", "enqueue[0].label", "must be one line of 1 to 60 characters"),
    ("{train.lr: 0.001, train.score: ema}", "enqueue[0]", "train.score ema needs averaged weights"),
]


@pytest.mark.parametrize(("entry", "path", "rule"), ENQUEUE_BROKEN)
def test_enqueued_configurations_must_lie_in_the_space(entry: str, path: str, rule: str) -> None:
    conditional = "  train.momentum: {type: float, low: 0, high: 0.9, when: {train.lr: {gt: 0.002}}}\n"
    problem = only(f"{GOOD}{conditional}enqueue:\n  - {entry}\n")
    assert problem.path == path
    assert rule in problem.rule
    assert problem.line == 7


@pytest.mark.parametrize("policy", ["random", "tpe"])
def test_only_the_gp_accepts_priors(policy: str) -> None:
    prior = "  train.momentum: {type: float, low: 0, high: 0.9, prior: {center: 0.5}}\n"
    problem = only(f"{GOOD}{prior}search: {{policy: {policy}}}\n")
    assert (problem.path, problem.line) == ("space.train.momentum.prior", 5)
    assert "needs search.policy: gp" in problem.rule
    baseline = "enqueue: [{train.lr: 0.001}]\n"
    problem = only(f"{GOOD}{baseline}search: {{policy: {policy}, prior: baseline}}\n")
    assert (problem.path, "needs search.policy: gp" in problem.rule) == ("search.prior", True)


def test_priors_around_the_baseline_need_one() -> None:
    problem = only(f"{GOOD}search: {{prior: baseline}}\n")
    assert (problem.path, "needs a baseline" in problem.rule) == ("search.prior", True)


def test_an_enqueued_configuration_may_have_a_label_and_settings_that_are_not_searched() -> None:
    entry = '{label: "SGD, no clipping", train.lr: 0.001, train.optimizer: sgd, train.clip_grad: 0, extra.x: 1}'
    good = f"{GOOD}extra: {{x: 0}}\n"
    spec = parse_spec(f"{good}enqueue:\n  - {entry}\n", "study.yaml")
    assert spec.baseline_name == "baseline (SGD, no clipping)"
    assert spec.baseline_values() == {"train.lr": 0.001}
    assert spec.base().train.optimizer == "adamw", "other trials do not have the settings of the baseline alone"
    assert parse_spec(spec.to_yaml(), "again") == spec
    named = parse_spec(f"{good}enqueue:\n  - {entry}\nbaseline: {{label: plain}}\n", "study.yaml")
    assert named.baseline_name == "baseline (plain)"
    problem = only(f"{GOOD}enqueue:\n  - {entry}\n")
    assert (problem.path, "nor another setting" in problem.rule) == ("enqueue[0].extra.x", True), "it is a slip"


def test_a_model_that_only_the_baseline_has_must_exist() -> None:
    text = GOOD.replace(f"{TRAINER}\n", "") + "enqueue: [{train.lr: 0.001, model.name: tf_efficientnetv2_x}]\n"
    problem = only(text)
    assert (problem.path, problem.rule) == ("enqueue[0].model.name", "is not a timm model")


def test_a_condition_may_refer_only_to_an_earlier_parameter() -> None:
    text = f"""\
study: a
{TRAINER}
space:
  train.momentum: {{type: float, low: 0, high: 0.9, when: {{train.lr: {{gt: 0.2}}}}}}
  train.lr: {{type: float, low: 0.1, high: 1}}
"""
    problem = only(text)
    assert (problem.path, problem.line) == ("space.train.momentum.when.train.lr", 4)
    assert "comes later" in problem.rule
    circle = text.replace("high: 1}", "high: 1, when: {train.momentum: {gt: 0}}}")
    assert all("circle" in problem.rule for problem in problems(circle))
    assert len(problems(circle)) == 2


def test_searched_stages_beyond_the_epochs_are_found_at_the_corner() -> None:
    text = GOOD + "  train.progressive.stages: {type: int, low: 1, high: 8}\ntrain: {epochs: 6}\n"
    problem = only(text)
    assert problem.path == "space.train.progressive.stages"
    assert "8 stages need at least 8 epochs" in problem.rule


def test_a_condition_can_keep_a_corner_out_of_reach() -> None:
    stages = "  train.progressive.stages: {type: int, low: 1, high: 4}\n"
    start = (
        "  train.progressive.size.start: {type: int, low: 64, high: 320, when: {train.progressive.stages: {eq: 1}}}\n"
    )
    spec = parse_spec(GOOD + stages + start, "study.yaml")  # one stage never starts small
    assert spec.space["train.progressive.size.start"].when == {"train.progressive.stages": Condition(eq=1)}


def test_fixed_sizes_exclude_searched_ones() -> None:
    text = GOOD + "  train.progressive.size.start: {type: int, low: 32, high: 64}\n"
    text += "train: {progressive: {stages: 2, sizes: [32, 64]}}\n"
    assert any(problem.path == "train.progressive.sizes" for problem in problems(text))


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ("search: {landing: true, policy: tpe}", "needs search.policy: gp"),
        ("search: {landing: true}\nasha: {enabled: false}", "needs ASHA"),
        ("search: {landing: true}\nobjectives: [val_accuracy, params]", "must be false with several objectives"),
    ],
)
def test_landing_needs_predicted_ends_pruned_trials_and_one_objective(settings: str, rule: str) -> None:
    problem = only(f"{GOOD}{settings}\n")
    assert (problem.path, rule in problem.rule) == ("search.landing", True)
