"""A specification from YAML: what is accepted, and that all broken rules are reported at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo.errors import HpoError, InfrastructureError, NoTrialSucceeded, UsageError
from hpo.spec.parameters import FloatParameter
from hpo.validation.loader import load_spec, parse_spec, parse_training
from hpo.validation.problems import Problem, SpecificationError, format_problems
from tests.support.specifications import GOOD, TRAINER, only, problems
from trainers.api import TrialConfig


def test_a_small_specification_gets_defaults() -> None:
    spec = parse_spec(GOOD, "study.yaml")
    assert spec.space["train.lr"] == FloatParameter(type="float", low=1e-4, high=1e-2, log=True)
    assert (spec.search.policy, spec.search.startup_trials, spec.search.random_share) == ("gp", 8, 0.2)
    assert (spec.asha.reduction_factor, spec.asha.grace_period, spec.asha.resource) == (4, 1, "auto")
    assert (spec.resources.cpus, spec.resources.gpus, spec.resources.device) == (1, "auto", "auto")
    assert (spec.concurrency, spec.retries, spec.seed, spec.budget.hours) == ("auto", 2, 0, None)
    assert spec.base() == TrialConfig(train=spec.base().train)
    assert spec.base().train.lr == 1e-4  # the lowest corner, as nothing is enqueued


def test_a_specification_is_frozen() -> None:
    spec = parse_spec(GOOD, "study.yaml")
    with pytest.raises(ValueError, match="frozen"):
        spec.seed = 3


def test_baseline_is_the_first_enqueued_configuration() -> None:
    spec = parse_spec(GOOD + "enqueue: [{train.lr: 0.002}, {train.lr: 0.005}]", "study.yaml")
    assert spec.baseline_values() == {"train.lr": 0.002}
    assert spec.base().train.lr == 0.002


def test_a_specification_may_label_its_baseline() -> None:
    assert parse_spec(GOOD, "study.yaml").baseline_name == "baseline"
    spec = parse_spec(GOOD + 'baseline: {label: "AdamW, one stage"}\n', "study.yaml")
    assert spec.baseline_name == "baseline (AdamW, one stage)"


@pytest.mark.parametrize("label", ['""', '" x"', '"two\\nlines"', '"a\\u2028b"', "x" * 61])
def test_a_label_is_one_short_line(label: str) -> None:
    assert only(f"{GOOD}baseline: {{label: {label}}}\n").rule == "must be one line of 1 to 60 characters"


@pytest.mark.parametrize("text", ['"\\e[2J"', '"a\\0"', '"\\x9b2J"', '"\\ud800"'])
@pytest.mark.parametrize("where", ["description: {}", "baseline: {{label: {}}}", "trainer: {}"])
def test_a_text_with_control_characters_is_refused_wherever_it_stands(where: str, text: str) -> None:
    good = GOOD if where.split(":")[0] != "trainer" else GOOD.replace("trainer: tests.synthetic:train", "")
    assert only(f"{good}{where.format(text)}\n").rule == "contains a control character, or half of a surrogate pair"


def test_searched_settings_may_have_defaults_that_do_not_fit_the_fixed_ones() -> None:
    """The default first size is 128, which would shrink to 48; the searched ones do not."""
    text = "  train.progressive.size.start: {type: int, low: 32, high: 48, step: 8}\n"
    text += "train: {progressive: {size: {end: 48}}}\n"
    spec = parse_spec(GOOD + text, "study.yaml")
    assert spec.base().train.progressive.size.start == 32


def test_numbers_and_words_are_read_as_yaml_1_2() -> None:
    text = GOOD + "description: no\ntrain: {weight_decay: 1e-3, epochs: 010, clip_grad: 3, label_smoothing: .5}\n"
    spec = parse_spec(text, "study.yaml")
    assert spec.description == "no"
    assert (spec.train.weight_decay, spec.train.epochs, spec.train.clip_grad) == (0.001, 10, 3.0)
    assert spec.train.label_smoothing == 0.5


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    text = f"""\
    study: ../../x
    {TRAINER}
    seed: "3"
    seed: 4
    train:
      epochs: 4
      weight_decay: -1
      progressive: {{stages: 9}}
    space:
      train.lr: {{type: float, low: 1, high: 0.1}}
      train.momentun: {{type: float, low: 0, high: 0.5}}
      train.optimizer: {{type: categorical, choices: [sgd, adam]}}
    asha: {{grace_period: 9}}
    enqueue: [{{train.optimizr: sgd}}]
    """
    reported = problems(text)
    lines = {(problem.line, problem.path) for problem in reported}
    assert {
        (1, "study"),
        (3, "seed"),
        (4, "seed"),
        (7, "train.weight_decay"),
        (10, "space.train.lr.low"),
        (11, "space.train.momentun"),
        (12, "space.train.optimizer.choices[1]"),
        (13, "asha.grace_period"),
        (14, "enqueue[0].train.optimizr"),
    } <= lines
    printed = format_problems(reported, "study.yaml")
    assert printed.startswith(f"study.yaml: {len(reported)} problems\n")
    assert "study.yaml:10: space.train.lr.low: must be at most high, which is 0.1 (is 1)" in printed
    assert "did you mean train.momentum?" in printed
    numbers = [int(line.split(":")[1]) for line in printed.splitlines() if line.startswith("  study.yaml:")]
    assert numbers == sorted(numbers)


def test_one_error_causes_no_reports_of_others() -> None:
    """What depends on a faulty part is not judged: it would be judged by a default nobody asked for."""
    problem = only(GOOD + "train: {epochs: ten, progressive: {stages: 16}}\nasha: {max: 60, grace_period: 55}\n")
    assert problem.path == "train.epochs"
    broken = GOOD + "  train.momentum: {type: float, low: x, high: 0.9}\n"
    broken += "  train.clip_grad: {type: float, low: 0, high: 1, when: {train.momentum: {gt: 2}}}\n"
    broken += "enqueue: [{train.lr: 0.001, train.momentum: 0.5, train.clip_grad: 1}]\n"
    assert only(broken).path == "space.train.momentum.low"


def test_output_is_safe_to_print() -> None:
    text = GOOD + 'train: {"\\e[31mred": 1}\nstorage: {ledger: "x y://me:hunter2@host/db"}\n'
    error = SpecificationError(problems(text), "a\x1b[2J.yaml")
    assert "\x1b" not in str(error)
    assert "hunter2" not in str(error)
    many = [Problem(line, f"key{line}", 1, "is wrong") for line in range(1, 500)]
    assert "and 399 more" in format_problems(many, "x")


def test_each_kind_of_error_has_its_exit_code() -> None:
    codes = {HpoError: 1, UsageError: 2, SpecificationError: 2, NoTrialSucceeded: 3, InfrastructureError: 4}
    assert {kind: kind.exit_code for kind in codes} == codes


def test_a_description_that_came_with_a_file_names_what_was_changed() -> None:
    """The shipped study of EfficientNetV2-S is not one of another model."""
    shipped = load_spec("cifar10").description
    changed = load_spec("cifar10", ["model.name=tf_efficientnet_lite0", "budget.trials=7"]).description
    assert changed == f"{shipped} (changed: model.name=tf_efficientnet_lite0, budget.trials=7)"
    assert load_spec("cifar10", ["study=mine", "tracking.enabled=false"]).description == shipped
    assert load_spec("cifar10", ["train.epochs=9", "description=mine"]).description == "mine"
    assert load_spec("cifar10", ["train.epochs=9", "description=''"]).description == ""
    trained = parse_training("description: Trial 3 of s\n", "best.yaml", ["train.epochs=20"])
    assert trained.description == "Trial 3 of s (changed: train.epochs=20)"


def test_a_folder_of_the_name_of_a_shipped_study_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").mkdir()
    assert load_spec("quickstart").study == "quickstart"
