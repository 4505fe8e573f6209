"""One broken rule of a specification, at a time."""

from __future__ import annotations

import pytest

from hpo.validation.loader import parse_spec
from hpo.validation.problems import SpecificationError
from tests.support.specifications import GOOD, TRAINER, only, problems


@pytest.fixture(autouse=True)
def _this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


BROKEN = [
    ("stduy: x\n" + GOOD, "stduy", "unknown key", "did you mean study?"),
    (GOOD + "lr: 0.1", "lr", "unknown key", "did you mean train.lr?"),
    (GOOD + "train: {optimiser: sgd}", "train.optimiser", "unknown key", "did you mean train.optimizer?"),
    (
        GOOD + "train: {augment: {cutuot: 0.5}}",
        "train.augment.cutuot",
        "unknown key",
        "did you mean train.augment.cutout?",
    ),
    (GOOD + "data: [cifar10]", "data", "must be a mapping", None),
    (GOOD + "data:\n", "data", "must be a mapping", "remove the key to use its default"),
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
    (GOOD + "extra: {1: 2}", "extra.1", "keys must be plain text", "put the key in quotes"),
    (GOOD + "extra: {a: null}", "extra.a", "true or false or a whole number or a number or text", None),
    (GOOD + "budget: {trials: 0}", "budget.trials", "must be >= 1", None),
    (GOOD + "budget: {hours: 0}", "budget.hours", "must be > 0", None),
    (GOOD + "asha: {reduction_factor: 1}", "asha.reduction_factor", "must be > 1", None),
    (GOOD + "asha: {grace_period: 51}", "asha.grace_period", "at most train.epochs, which is 50", None),
    (GOOD + "asha: {max: 30}", "asha.max", "must equal train.epochs, which is 50", None),
    (GOOD + "search: {policy: tpee}", "search.policy", "random, tpe or gp", "did you mean tpe?"),
    (GOOD + "search: {random_share: 1.1}", "search.random_share", "must be <= 1", None),
    (GOOD + "concurrency: 0", "concurrency", ">= 1 or auto", None),
    (GOOD + "resources: {cpus: 4096}", "resources.cpus", "the number of cores of this machine", None),
    (GOOD + "resources: {gpus: 4096}", "resources.gpus", "the number of GPUs of this machine", None),
    (GOOD + "resources: {gpus: -1}", "resources.gpus", ">= 0 or auto", None),
    (GOOD + "resources: {gpus: 1, device: cpu}\nray: {address: 'h:1'}", "resources.gpus", "must be 0", None),
    (GOOD + "resources: {gpus: 0, device: cuda}\nray: {address: 'h:1'}", "resources.gpus", "> 0", None),
    (
        "study: a\nspace: {train.lr: {type: float, low: 1e-4, high: 1e-2}}\n"
        "resources: {gpus: 2}\nray: {address: 'h:1'}",
        "resources.gpus",
        "at most 1, because the shipped trainer uses one GPU",
        "set gpus: 1; with more GPUs, more trials run at the same time (concurrency: auto)",
    ),
    (GOOD + "resources: {gpus: 1.5}\nray: {address: 'h:1'}", "resources.gpus", "a whole number if above 1", None),
    (GOOD + "storage: {ledger: optuna.db}", "storage.ledger", "SQLAlchemy URL", None),
    (GOOD + "storage: {ledger: 'postgres://h/d'}", "storage.ledger", "", None),
    (GOOD + "train: {lr: 0.1}", "train.lr", "is fixed here but searched on line 4", None),
    (GOOD + "train: {epochs: 5, progressive: {stages: 6}}", "train.progressive.stages", "need at least 6 epochs", None),
    (GOOD + "train: {progressive: {size: {start: 400}}}", "train.progressive.size", "must not shrink", None),
    (
        GOOD + "train: {progressive: {stages: 2, sizes: [64, 32]}}",
        "train.progressive.sizes",
        "must not shrink",
        None,
    ),
    (GOOD + "train: {score: ema}", "train.score", "decay is 0", None),
    (f"study: a\n{TRAINER}\nspace: {{}}", "space", "at least one parameter", None),
    (f"study: a\n{TRAINER}", "space", "is required", None),
    (GOOD + "--- \nstudy: b", "", "second YAML document", None),
    (GOOD + "a: [", "", "is not YAML", None),
    ("- a list", "", "mapping of keys to values", None),
    ("", "", "is empty", "start with a copy of a shipped study or recipe"),
    ("\0", "", "is not YAML", None),
    ("[" * 50_000, "", "nested deeper", None),
    ("{? [a]: 3}", "", "keys must be plain text", None),
    ('a: "\\UFFFFFFFF"', "", "is not YAML", None),
]


@pytest.mark.parametrize(("text", "path", "rule", "hint"), BROKEN)
def test_one_broken_rule_is_one_problem(text: str, path: str, rule: str, hint: str | None) -> None:
    if path == "storage.ledger" and not rule:
        parse_spec(text, "study.yaml")  # SQLAlchemy itself refuses this dialect; its shape is right
        return
    problem = only(text)
    assert problem.path == path
    assert rule in problem.rule
    assert hint is None or problem.hint == hint
    assert problem.line is not None


def test_unknown_models_and_missing_weights_are_found() -> None:
    text = GOOD.replace(TRAINER + "\n", "") + "model: {name: tf_efficientnetv2_ss, pretrained: gone.pt}\n"
    name, weights = problems(text)
    assert (name.path, weights.path) == ("model.name", "model.pretrained")
    assert "tf_efficientnetv2_s" in str(name.hint)
    searched = "  model.name: {type: categorical, choices: [tf_efficientnetv2_b0, tf_efficientnetv2_b9]}\n"
    problem = only(GOOD.replace(TRAINER + "\n", "") + searched)
    assert problem.path == "space.model.name.choices[1]"


def test_a_cluster_may_have_more_than_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    text = GOOD + "resources: {gpus: 4096, cpus: 4096}\n"
    assert len(problems(text)) == 2
    parse_spec(text + "ray: {address: 'ray://head:10001'}", "study.yaml")
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    parse_spec(text, "study.yaml")


def test_cuda_without_a_device_is_refused() -> None:
    from trainers.devices import gpu_count

    text = GOOD + "resources: {device: cuda}\n"
    if gpu_count():
        assert parse_spec(text, "study.yaml").resources.device == "cuda"
    else:
        assert only(text).path == "resources.device"


def test_a_problem_is_one_line_with_place_rule_value_and_remedy() -> None:
    printed = str(
        SpecificationError(problems(GOOD + "budget: {trails: 6}\nseed: -1\ntrain: {epochs: 8.0}\n"), "s.yaml")
    )
    assert printed.splitlines() == [
        "s.yaml: 3 problems",
        "  s.yaml:5: unknown key budget.trails; did you mean budget.trials?",
        "  s.yaml:6: seed: must be >= 0 (is -1)",
        "  s.yaml:7: train.epochs: must be a whole number (is 8.0); write 8",
    ]
