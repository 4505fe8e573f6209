"""A specification from YAML and overrides: what is accepted, and how every broken rule is reported."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from hpo.config import Training, format_problems, load_spec, load_training, parse_spec, parse_training
from hpo.errors import HpoError, InfrastructureError, NoTrialSucceeded, Problem, SpecificationError, UsageError
from hpo.parameters import Condition, FloatParameter
from hpo.training import Provenance
from trainers.api import TrialConfig

TRAINER = "trainer: tests.synthetic:train"  # spares the look-up of the model, which imports timm
GOOD = f"""\
study: small
{TRAINER}
space:
  train.lr: {{type: float, low: 1e-4, high: 1e-2, log: true}}
"""


@pytest.fixture(autouse=True)
def _this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def problems(text: str, overrides: tuple[str, ...] = ()) -> list[Problem]:
    with pytest.raises(SpecificationError) as caught:
        parse_spec(textwrap.dedent(text), "study.yaml", overrides)
    return list(caught.value.problems)


def only(text: str, overrides: tuple[str, ...] = ()) -> Problem:
    found = problems(text, overrides)
    assert len(found) == 1, found
    return found[0]


def test_a_small_specification_gets_defaults() -> None:
    spec = parse_spec(GOOD, "study.yaml")
    assert spec.space["train.lr"] == FloatParameter(type="float", low=1e-4, high=1e-2, log=True)
    assert (spec.search.policy, spec.search.startup_trials, spec.search.random_share) == ("gp", 8, 0.2)
    assert (spec.asha.reduction_factor, spec.asha.grace_period, spec.asha.resource) == (4, 1, "auto")
    assert (spec.resources.cpus, spec.resources.gpus, spec.resources.device) == (1, "auto", "auto")
    assert (spec.concurrency, spec.retries, spec.seed, spec.budget.hours) == ("auto", 2, 0, None)
    assert spec.base() == TrialConfig(train=spec.base().train)
    assert spec.base().train.lr == 1e-4  # the lowest corner, as nothing is enqueued


def test_models_are_frozen() -> None:
    spec = parse_spec(GOOD, "study.yaml")
    with pytest.raises(ValueError, match="frozen"):
        spec.seed = 3


def test_baseline_is_the_first_enqueued_configuration() -> None:
    spec = parse_spec(GOOD + "enqueue: [{train.lr: 0.002}, {train.lr: 0.005}]", "study.yaml")
    assert spec.baseline() == {"train.lr": 0.002}
    assert spec.base().train.lr == 0.002


def test_searched_settings_may_have_defaults_that_do_not_fit_the_fixed_ones() -> None:
    """The default first size is 128, which would shrink to 48; the searched ones do not."""
    text = "  train.progressive.size.start: {type: int, low: 32, high: 48, step: 8}\n"
    text += "train: {progressive: {size: {end: 48}}}\n"
    spec = parse_spec(GOOD + text, "study.yaml")
    assert spec.base().train.progressive.size.start == 32


def test_yaml_1_2_numbers_and_words() -> None:
    text = GOOD + "description: no\ntrain: {weight_decay: 1e-3, epochs: 010, clip_grad: 3, label_smoothing: .5}\n"
    spec = parse_spec(text, "study.yaml")
    assert spec.description == "no"
    assert (spec.train.weight_decay, spec.train.epochs, spec.train.clip_grad) == (0.001, 10, 3.0)
    assert spec.train.label_smoothing == 0.5


# ------------------------------------------------------------------------------ one broken rule at a time

BROKEN = [
    ("stduy: x\n" + GOOD, "stduy", "no known key", "did you mean study?"),
    (GOOD + "lr: 0.1", "lr", "no known key", "did you mean train.lr?"),
    (GOOD + "train: {optimiser: sgd}", "train.optimiser", "no known key", "did you mean optimizer?"),
    (GOOD + "train: {augment: {cutuot: 0.5}}", "train.augment.cutuot", "no known key", "did you mean cutout?"),
    (GOOD + "data: [cifar10]", "data", "must be a mapping", None),
    (GOOD + "data:\n", "data", "must be a mapping", "leave the key out for its default"),
    (GOOD.replace("study: small", "study: 3"), "study", "must be text", None),
    (GOOD.replace("study: small\n", ""), "study", "is required", None),
    (GOOD.replace("small", "../up"), "study", "it names a folder", None),
    (GOOD.replace("small", "a/b"), "study", "it names a folder", None),
    (GOOD.replace("small", "'x\\n'").replace("'", '"'), "study", "it names a folder", None),
    (GOOD.replace("small", "x" * 65), "study", "it names a folder", None),
    (GOOD.replace("small", ".hidden"), "study", "it names a folder", None),
    (GOOD.replace("tests.synthetic:train", "os.system"), "trainer", "module:function", None),
    (GOOD + 'train: {epochs: "10"}', "train.epochs", "whole number", "write 10 without quotes"),
    (GOOD + "train: {epochs: 10.0}", "train.epochs", "whole number", "write 10"),
    (GOOD + "train: {epochs: true}", "train.epochs", "whole number", None),
    (GOOD + "train: {compile: yes}", "train.compile", "true or false", None),
    (GOOD + "train: {batch_size: some}", "train.batch_size", "a whole number or auto", None),
    (GOOD + "train: {weight_decay: -0.1}", "train.weight_decay", "must be >= 0", None),
    (GOOD + "train: {label_smoothing: 1.0}", "train.label_smoothing", "must be < 1", None),
    (GOOD + "train: {optimizer: adamv}", "train.optimizer", "adamw, sgd", "did you mean adamw?"),
    (GOOD + "train: {clip_grad: .inf}", "train.clip_grad", "finite", None),
    (GOOD + "train: {clip_grad: .nan}", "train.clip_grad", "finite", None),
    (GOOD + "seed: -1", "seed", "must be >= 0", None),
    (GOOD + "seed: 99999999999999999999", "seed", "64 bits", None),
    (GOOD + "seed: 1\nseed: 2", "seed", "is given twice; the first is on line 5", "remove one"),
    (GOOD + "seed: !!int 3", "seed", "tags are not allowed", "remove the tag"),
    (GOOD + "seed: !!python/object/apply:os.getpid []", "seed", "tags are not allowed", "remove the tag"),
    (GOOD + "seed: &a 3", "seed", "anchors are not allowed", None),
    (GOOD + "seed: *a", "seed", "aliases are not allowed", "write the value out"),
    (GOOD + "extra: {1: 2}", "extra.1", "keys are plain text", "put the key in quotes"),
    (GOOD + "extra: {a: null}", "extra.a", "true or false or a whole number or a number or text", None),
    (GOOD + "budget: {trials: 0}", "budget.trials", "must be >= 1", None),
    (GOOD + "budget: {hours: 0}", "budget.hours", "must be > 0", None),
    (GOOD + "asha: {reduction_factor: 1}", "asha.reduction_factor", "must be > 1", None),
    (GOOD + "asha: {grace_period: 51}", "asha.grace_period", "at most train.epochs, which is 50", None),
    (GOOD + "asha: {max: 30}", "asha.max", "must equal train.epochs, which is 50", None),
    (GOOD + "search: {policy: tpee}", "search.policy", "random, tpe or gp", "did you mean tpe?"),
    (GOOD + "search: {random_share: 1.1}", "search.random_share", "must be <= 1", None),
    (GOOD + "concurrency: 0", "concurrency", ">= 1 or auto", None),
    (GOOD + "resources: {cpus: 4096}", "resources.cpus", "the CPU cores of this machine", None),
    (GOOD + "resources: {gpus: 4096}", "resources.gpus", "the GPUs of this machine", None),
    (GOOD + "resources: {gpus: -1}", "resources.gpus", ">= 0 or auto", None),
    (GOOD + "resources: {gpus: 1, device: cpu}\nray: {address: 'h:1'}", "resources.gpus", "must be 0", None),
    (GOOD + "resources: {gpus: 0, device: cuda}\nray: {address: 'h:1'}", "resources.gpus", "> 0", None),
    (GOOD + "resources: {gpus: 1.5}\nray: {address: 'h:1'}", "resources.gpus", "whole above 1", None),
    (GOOD + "storage: {ledger: optuna.db}", "storage.ledger", "SQLAlchemy URL", None),
    (GOOD + "storage: {ledger: 'postgres://h/d'}", "storage.ledger", "", None),
    (GOOD + "train: {lr: 0.1}", "train.lr", "is fixed here and searched on line 4", None),
    (GOOD + "train: {epochs: 5, progressive: {stages: 6}}", "train.progressive.stages", "need as many epochs", None),
    (GOOD + "train: {progressive: {size: {start: 400}}}", "train.progressive.size", "sizes shrink", None),
    (
        GOOD + "train: {progressive: {stages: 2, sizes: [64, 32]}}",
        "train.progressive.sizes",
        "sizes shrink",
        None,
    ),
    (GOOD + "train: {score: ema}", "train.score", "decay is 0", None),
    (f"study: a\n{TRAINER}\nspace: {{}}", "space", "at least one parameter", None),
    (f"study: a\n{TRAINER}", "space", "is required", None),
    (GOOD + "--- \nstudy: b", "", "second YAML document", None),
    (GOOD + "a: [", "", "is not YAML", None),
    ("- a list", "", "mapping of keys to values", None),
    ("", "", "mapping of keys to values", None),
    ("\0", "", "is not YAML", None),
    ("[" * 50_000, "", "nested deeper", None),
    ("{? [a]: 3}", "", "keys are plain text", None),
    ('a: "\\UFFFFFFFF"', "", "is not YAML", None),
]


@pytest.mark.parametrize(("text", "path", "rule", "hint"), BROKEN)
def test_one_broken_rule_is_one_problem(text: str, path: str, rule: str, hint: str | None) -> None:
    if path == "storage.ledger" and not rule:
        parse_spec(text, "study.yaml")  # SQLAlchemy itself refuses this dialect; its shape is right
        return
    found = only(text)
    assert found.path == path
    assert rule in found.rule
    assert hint is None or found.hint == hint
    assert found.line is not None


SPACE_BROKEN = [
    ("train.momentum: {type: float, low: 0.9, high: 0.1}", ".low", "at most high", "low: 0.1 and high: 0.9"),
    ("train.weight_decay: {type: float, low: 0, high: 1, log: true}", ".low", "> 0 for a logarithmic", "drop log"),
    ("train.weight_decay: {type: float, low: -1, high: 1}", ".low", ">= 0, as train.weight_decay is", None),
    ("train.progressive.dropout.end: {type: float, low: 0, high: 1.5}", ".high", "< 1, as train", None),
    ("train.clip_grad: {type: float, low: 0, high: 1, step: 0.3}", ".step", "divide high - low", "high: 0.9"),
    ("train.clip_grad: {type: float, low: 1, high: 2, step: 0.5, log: true}", ".step", "excludes log", None),
    ("train.clip_grad: {type: float, low: 1, high: 2, step: 0}", ".step", "> 0", None),
    ("train.accumulate: {type: int, low: 1, high: 4, step: 2}", ".step", "divide high - low", "high: 3"),
    ("train.accumulate: {type: int, low: 1, high: 2.5}", ".high", "whole number", None),
    ("train.accumulate: {type: float, low: 1, high: 2}", ".type", "must be a whole number", "use type: int"),
    ("train.accumulate: {type: int, low: 1}", ".high", "is required", None),
    ("train.accumulate: {type: itn, low: 1, high: 2}", ".type", "float, int or categorical", "did you mean int?"),
    ("train.accumulate: {low: 1, high: 2}", ".type", "float, int or categorical", None),
    ("train.accumulate: {type: int, low: 1, high: 2, setp: 1}", ".setp", "no known key", "did you mean step?"),
    ("train.optimizer: {type: categorical, choices: []}", ".choices", "at least one choice", None),
    ("train.optimizer: {type: categorical, choices: [sgd, adamw, sgd]}", ".choices[2]", "given twice", None),
    ("train.optimizer: {type: categorical, choices: [sgd, 3]}", ".choices[1]", "must be adamw, sgd", None),
    ("train.compile: {type: int, low: 0, high: 1}", ".type", "true or false", None),
    ("train.lrr: {type: float, low: 0.1, high: 1}", "", "no setting", "did you mean train.lr?"),
    ("momentum: {type: float, low: 0.1, high: 0.5}", "", "no setting", "did you mean train.momentum?"),
    ("train.ema: {type: float, low: 0.1, high: 0.5}", "", "group of settings", "train.ema.decay"),
    ("data.split_seed: {type: int, low: 0, high: 3}", "", "cannot be searched", None),
    ("train.epochs: {type: int, low: 1, high: 3}", "", "cannot be searched", None),
    ("train.progressive.sizes: {type: int, low: 32, high: 64}", "", "cannot be searched", None),
    ("extra.a-b: {type: int, low: 1, high: 3}", "", "identifier", None),
    ("train.momentum: {type: float, low: 0, high: 0.9, when: {train.l: {gt: 0}}}", ".when.train.l", "no param", None),
    ("train.momentum: {type: float, low: 0, high: 0.9, when: {train.lr: {gt: 1}}}", ".when.train.lr", "never", None),
    ("train.momentum: {type: float, low: 0, high: 0.9, when: {train.lr: {}}}", ".when.train.lr", "at least one", None),
    (
        "train.momentum: {type: float, low: 0, high: 0.9, when: {train.momentum: {gt: 0}}}",
        ".when.train.momentum",
        "itself",
        None,
    ),
    ("train.warmup_epochs: {type: float, low: 0, high: 50}", "", "leaves nothing", "train.warmup_epochs = 50"),
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
    found = only(text)
    # A rule between settings names the group; the parameter at fault is inside it.
    assert found.path.startswith(f"space.{line.partition(':')[0]}{below}")
    assert rule in found.rule
    assert found.line == 5
    assert hint is None or hint in str(found.hint)


ENQUEUE_BROKEN = [
    ("{train.lr: 0.1}", "enqueue[0].train.lr", "outside the space: must be a number from 0.0001 to 0.01"),
    ("{train.lr: fast}", "enqueue[0].train.lr", "outside the space"),
    ("{}", "enqueue[0]", "must give train.lr too"),
    ("{train.lr: 0.001, train.lrr: 1}", "enqueue[0].train.lrr", "no parameter of the space"),
    ("{train.lr: 0.001, train.momentum: 0.3}", "enqueue[0].train.momentum", "not active"),
    ("{train.lr: 0.005}", "enqueue[0]", "must give train.momentum too"),
    ("3", "enqueue[0]", "must be a mapping"),
]


@pytest.mark.parametrize(("entry", "path", "rule"), ENQUEUE_BROKEN)
def test_enqueued_configurations_must_lie_in_the_space(entry: str, path: str, rule: str) -> None:
    conditional = "  train.momentum: {type: float, low: 0, high: 0.9, when: {train.lr: {gt: 0.002}}}\n"
    found = only(f"{GOOD}{conditional}enqueue:\n  - {entry}\n")
    assert found.path == path
    assert rule in found.rule
    assert found.line == 7


def test_conditions_may_only_look_back() -> None:
    text = f"""\
study: a
{TRAINER}
space:
  train.momentum: {{type: float, low: 0, high: 0.9, when: {{train.lr: {{gt: 0.2}}}}}}
  train.lr: {{type: float, low: 0.1, high: 1}}
"""
    found = only(text)
    assert (found.path, found.line) == ("space.train.momentum.when.train.lr", 4)
    assert "comes later" in found.rule
    circle = text.replace("high: 1}", "high: 1, when: {train.momentum: {gt: 0}}}")
    assert all("circle" in problem.rule for problem in problems(circle))
    assert len(problems(circle)) == 2


def test_searched_stages_beyond_the_epochs_are_found_at_the_corner() -> None:
    text = GOOD + "  train.progressive.stages: {type: int, low: 1, high: 8}\ntrain: {epochs: 6}\n"
    found = only(text)
    assert found.path == "space.train.progressive.stages"
    assert "8 stages need as many epochs" in found.rule


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


def test_unknown_models_and_missing_weights_are_found() -> None:
    text = GOOD.replace(TRAINER + "\n", "") + "model: {name: tf_efficientnetv2_ss, pretrained: gone.pt}\n"
    name, weights = problems(text)
    assert (name.path, weights.path) == ("model.name", "model.pretrained")
    assert "tf_efficientnetv2_s" in str(name.hint)
    searched = "  model.name: {type: categorical, choices: [tf_efficientnetv2_b0, tf_efficientnetv2_b9]}\n"
    found = only(GOOD.replace(TRAINER + "\n", "") + searched)
    assert found.path == "space.model.name.choices[1]"


def test_a_cluster_may_have_more_than_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    text = GOOD + "resources: {gpus: 4096, cpus: 4096}\n"
    assert len(problems(text)) == 2
    parse_spec(text + "ray: {address: 'ray://head:10001'}", "study.yaml")
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    parse_spec(text, "study.yaml")


def test_cuda_without_a_device_is_refused() -> None:
    from trainers.catalogue import gpu_count

    text = GOOD + "resources: {device: cuda}\n"
    if gpu_count():
        assert parse_spec(text, "study.yaml").resources.device == "cuda"
    else:
        assert only(text).path == "resources.device"


# ---------------------------------------------------------------------------------------- many at once


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
    found = problems(text)
    lines = {(problem.line, problem.path) for problem in found}
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
    printed = format_problems(found, "study.yaml")
    assert printed.startswith(f"study.yaml: {len(found)} problems\n")
    assert "study.yaml:10: space.train.lr.low: must be at most high, which is 0.1 (is 1)" in printed
    assert "did you mean train.momentum?" in printed
    numbers = [int(line.split(":")[1]) for line in printed.splitlines() if line.startswith("  study.yaml:")]
    assert numbers == sorted(numbers)


def test_one_fault_does_not_bring_up_others() -> None:
    """What depends on a faulty part is not judged: it would be judged by a default nobody asked for."""
    found = only(GOOD + "train: {epochs: ten, progressive: {stages: 16}}\nasha: {max: 60, grace_period: 55}\n")
    assert found.path == "train.epochs"
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


# ------------------------------------------------------------------------------------------- overrides


def test_overrides_are_laid_over_the_file() -> None:
    overrides = (
        "train.epochs=8",
        "train.progressive.stages=2",
        "train.weight_decay=1e-3",
        "data.root=/somewhere/with=equals",
        "space.train.lr.low=1e-5",
        "space.train.momentum={type: float, low: 0, high: 0.9}",
        "space.train.momentum.high=0.8",
        "space.train.clip_grad.type=float",
        "space.train.clip_grad.low=0",
        "space.train.clip_grad.high=1",
        "enqueue=[{train.lr: 0.001, train.momentum: 0.5, train.clip_grad: 1}]",
        "enqueue.0.train.lr=0.002",
        "budget.hours=0.5",
    )
    spec = parse_spec(GOOD, "study.yaml", overrides)
    assert (spec.train.epochs, spec.train.progressive.stages, spec.train.weight_decay) == (8, 2, 0.001)
    assert spec.data.root == "/somewhere/with=equals"
    assert list(spec.space) == ["train.lr", "train.momentum", "train.clip_grad"]
    assert (spec.space["train.lr"].low, spec.space["train.momentum"].high) == (1e-5, 0.8)
    assert spec.enqueue[0]["train.lr"] == 0.002
    assert spec.budget.hours == 0.5


def test_null_takes_a_parameter_out_of_the_space() -> None:
    text = GOOD + "  train.momentum: {type: float, low: 0, high: 0.9}\n"
    spec = parse_spec(text, "study.yaml", ("space.train.lr=null", "train.lr=0.01"))
    assert list(spec.space) == ["train.momentum"]
    assert spec.base().train.lr == 0.01


@pytest.mark.parametrize(
    ("override", "path", "rule"),
    [
        ("train.epoch=3", "train.epoch", "no known key"),
        ("train.epochs=x", "train.epochs", "whole number"),
        ("train.epochs", "train.epochs", "no override"),
        ("=3", "=3", "no override"),
        ("train..epochs=3", "train..epochs=3", "no override"),
        ("train.weight_decay.x=3", "train.weight_decay", "must be a number"),
        ("seed=[", "seed", "is not YAML"),
        ("seed=!!int 3", "seed", "tags"),
        ("enqueue.0.train.lr=3", "enqueue", "must be a list"),
        ("space.train.momentum=null", "space.train.momentum", "not in the space"),
        ("train.lr=0.1", "train.lr", "fixed here and searched"),
    ],
)
def test_faulty_overrides_are_problems_without_a_line(override: str, path: str, rule: str) -> None:
    found = only(GOOD, (override,))
    assert (found.line, found.path) == (None, path)
    assert rule in found.rule
    assert "override: " in format_problems([found], "study.yaml")


# --------------------------------------------------------------------------------------------- files


def test_files_and_shipped_names(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(GOOD, encoding="utf-8")
    assert load_spec(str(path)) == parse_spec(GOOD, "x")
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_spec(str(path)).study == "small"


@pytest.mark.parametrize("name", ["gone.yaml", "cifar11", ".", "/dev/null", "/dev/zero", "a\0b", "x" * 5000, ""])
def test_what_cannot_be_read_is_a_specification_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecificationError) as caught:
        load_spec(name)
    assert len(caught.value.problems) == 1
    assert str(caught.value)
    if name == "cifar11":
        assert "did you mean cifar10?" in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [b"\x00" * 100, b"\x80\x04\x95 pickle", b"\xff\xfe", b"study: \xff", b"study: x\n" * 2_000_000, b"%PDF-1.7\n%\xe2"],
)
def test_junk_files_are_specification_errors(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "junk.yaml"
    path.write_bytes(content)
    for load in (load_spec, load_training):
        with pytest.raises(SpecificationError):
            load(str(path))


# -------------------------------------------------------------------------------- exported trainings


def test_training_survives_yaml_with_its_provenance() -> None:
    provenance = Provenance(
        study="small",
        trial=3,
        val_accuracy=0.91,
        epochs=8,
        seed=2**63 - 1,
        split_hash="00" * 32,
        versions={"python": "3.11", "torch": "2.11"},
        trainer="tests.synthetic:train",
    )
    config = TrialConfig(extra={"width": 3, "name": "1e-3", "on": "yes", "flag": True})
    training = Training.of(config, provenance, "a: b # c")
    again = parse_training(training.to_yaml(), "best.yaml")
    assert again == training
    assert again.config() == config


def test_training_rules_are_reported_with_lines() -> None:
    text = """\
    train:
      lr: -1
      epoch: 3
      progressive: {sizes: [64, 32], stages: 2}
    provenance: {trainer: "tests.synthetic:train", trial: one}
    """
    with pytest.raises(SpecificationError) as caught:
        parse_training(textwrap.dedent(text), "best.yaml")
    found = {(problem.line, problem.path) for problem in caught.value.problems}
    assert found == {(2, "train.lr"), (3, "train.epoch"), (5, "provenance.trial")}
    with pytest.raises(SpecificationError, match="shrink"):
        parse_training("train: {progressive: {sizes: [64, 32], stages: 2}}", "best.yaml")


def test_exit_codes() -> None:
    codes = {HpoError: 1, UsageError: 2, SpecificationError: 2, NoTrialSucceeded: 3, InfrastructureError: 4}
    assert {kind: kind.exit_code for kind in codes} == codes
