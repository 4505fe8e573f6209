"""Specifications and trainings as files, and the overrides laid over them."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from hpo.spec.training import Provenance, Training
from hpo.validation.loader import load_spec, load_training, parse_spec, parse_training
from hpo.validation.problems import SpecificationError, format_problems
from tests.support.specifications import GOOD, only
from trainers.api import TrialConfig


def test_overrides_change_values_of_the_file() -> None:
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


def test_null_removes_a_parameter_from_the_space() -> None:
    text = GOOD + "  train.momentum: {type: float, low: 0, high: 0.9}\n"
    spec = parse_spec(text, "study.yaml", ("space.train.lr=null", "train.lr=0.01"))
    assert list(spec.space) == ["train.momentum"]
    assert spec.base().train.lr == 0.01


@pytest.mark.parametrize(
    ("override", "path", "rule"),
    [
        ("train.epoch=3", "train.epoch", "unknown key"),
        ("train.epochs=x", "train.epochs", "whole number"),
        ("train.epochs", "train.epochs", "not an override"),
        ("=3", "=3", "not an override"),
        ("train..epochs=3", "train..epochs=3", "not an override"),
        ("train.weight_decay.x=3", "train.weight_decay", "must be a number"),
        ("seed=[", "seed", "is not YAML"),
        ("seed=!!int 3", "seed", "tags"),
        ("enqueue.0.train.lr=3", "enqueue", "must be a list"),
        ("space.train.momentum=null", "space.train.momentum", "not in the space"),
        ("train.lr=0.1", "train.lr", "fixed here but searched"),
    ],
)
def test_faulty_overrides_are_problems_without_a_line(override: str, path: str, rule: str) -> None:
    problem = only(GOOD, (override,))
    assert (problem.line, problem.path) == (None, path)
    assert rule in problem.rule
    assert "override: " in format_problems([problem], "study.yaml")


# --------------------------------------------------------------------------------------------- files


def test_a_file_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
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
    places = {(problem.line, problem.path) for problem in caught.value.problems}
    assert places == {(2, "train.lr"), (3, "train.epoch"), (5, "provenance.trial")}
    with pytest.raises(SpecificationError, match="shrink"):
        parse_training("train: {progressive: {sizes: [64, 32], stages: 2}}", "best.yaml")
