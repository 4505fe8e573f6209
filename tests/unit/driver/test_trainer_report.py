"""What a trainer may yield, and what it is told of a mistake."""

from __future__ import annotations

import dataclasses
import decimal
import fractions
import math
import sys
from typing import Any

import numpy as np
import pytest
import torch

from hpo.driver.ray_backend.trainer_report import FIELDS, ReportError, as_iterator, checked, described
from trainers.api import EpochMetrics


def report(**values: Any) -> EpochMetrics:
    return EpochMetrics(**({"epoch": 1, "val_accuracy": 0.5} | values))


@pytest.mark.parametrize(
    "values",
    [
        {"epoch": np.int64(1), "val_accuracy": np.float32(0.5)},
        {"val_accuracy": np.mean([0.5])},
        {"val_accuracy": np.array([0.5])},
        {"val_accuracy": np.array(0.5)},
        {"val_accuracy": torch.tensor(0.5)},
        {"val_accuracy": torch.tensor([[0.5]], dtype=torch.float64), "epoch": torch.tensor(1)},
        {"val_accuracy": torch.tensor(0.5, requires_grad=True)},
        {"val_accuracy": torch.tensor(0.5, dtype=torch.bfloat16)},
        {"val_accuracy": np.ma.array([0.5], mask=[False])},
        {"val_accuracy": fractions.Fraction(1, 2)},
        {"epoch": 1.0},
        {"train_loss": np.float16(2.0), "params": np.uint32(7), "stage": np.int8(0)},
    ],
    ids=repr,
)
def test_numbers_of_numpy_and_torch_become_plain_numbers(values: dict[str, Any]) -> None:
    metrics = checked(report(**values))
    assert (metrics.epoch, metrics.val_accuracy) == (1, 0.5)
    for field in dataclasses.fields(metrics):
        assert type(getattr(metrics, field.name)) in (int, float, str, type(None)), field.name
        if getattr(metrics, field.name) is not None:
            assert type(getattr(metrics, field.name)).__name__ == FIELDS[field.name]


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan"), torch.tensor(math.inf)], ids=repr)
def test_an_objective_that_is_not_finite_is_a_result_and_no_mistake(value: Any) -> None:
    assert not math.isfinite(checked(report(val_accuracy=value)).val_accuracy)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WithMore(EpochMetrics):
    precision: float = 0.5


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Broken(float):
    def __float__(self) -> float:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"epoch": 1, "val_accuracy": 0.5}, "yielded a dict.*yield EpochMetrics"),
        (None, "yielded None; yield EpochMetrics"),
        ("accuracy 0.5", "yielded a str"),
        (0.5, "yielded a float"),
        (Unprintable(), "cannot be shown"),
        (WithMore(epoch=1, val_accuracy=0.5), "reported precision, which EpochMetrics does not have"),
        (report(epoch=0), "epoch 0; epochs count from 1"),
        (report(epoch=-1), "epoch -1; epochs count from 1"),
        (report(epoch=1.5), "epoch 1.5; it must be a whole number"),
        (report(epoch=math.nan), "epoch nan; it must be a whole number"),
        (report(epoch=None), "epoch as None"),
        (report(epoch=True), "epoch as a bool"),
        (report(val_accuracy=93.1), "val_accuracy 93.1; it must be from 0 to 1: divide percent by 100"),
        (report(val_accuracy=-5), "val_accuracy -5; it must be from 0 to 1"),
        (report(val_accuracy=1e9), "it must be from 0 to 1: report the share"),
        (report(val_accuracy=None), "val_accuracy as None"),
        (report(val_accuracy="0.5"), "val_accuracy as a str .'0.5'.; it must be one number"),
        (report(val_accuracy=[0.5]), "val_accuracy as a list"),
        (report(val_accuracy=0.5 + 0j), "val_accuracy as a complex"),
        (report(val_accuracy=decimal.Decimal("0.5")), "val_accuracy as a Decimal"),
        (report(val_accuracy=np.array([0.1, 0.2])), "val_accuracy as a ndarray"),
        (report(val_accuracy=torch.zeros(2)), "val_accuracy as a Tensor"),
        (report(val_accuracy=np.str_("0.5")), "val_accuracy as a str_"),
        (report(train_loss="x" * 1000), "train_loss as a str"),
        (report(checkpoint=7), "checkpoint as a int.*must be a text"),
        (report(checkpoint="a\x1b[2J"), "checkpoint as a str.*must be a text"),
        (report(checkpoint="x" * 10_000), "checkpoint as a str.*at most 500 characters"),
        (report(val_accuracy=np.ma.masked), "val_accuracy as a MaskedConstant"),
        (report(val_accuracy=np.ma.array([0.5], mask=[True])), "val_accuracy as a MaskedArray"),
        (report(val_accuracy=np.timedelta64(1, "s")), "val_accuracy as a timedelta64"),
        (report(val_accuracy=Broken(0.5)), "val_accuracy as a Broken"),
        (report(epoch=1e308), "epoch as a whole number that does not fit 64 bits"),
        (report(params=10**400), "params as a whole number that does not fit 64 bits"),
        (report(val_accuracy=10**400), "val_accuracy as a whole number that does not fit 64 bits"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else None,
)
def test_a_wrong_report_is_named_with_its_remedy(value: Any, message: str) -> None:
    with pytest.raises(ReportError, match=message) as caught:
        checked(value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("value", [None, 3, report(), {"epoch": 1}, "text", b"bytes"], ids=repr)
def test_a_trainer_that_returns_instead_of_yielding_is_told(value: Any) -> None:
    with pytest.raises(ReportError, match="instead of an iterator; yield EpochMetrics"):
        as_iterator(value)


def test_lists_and_generators_of_reports_are_taken() -> None:
    assert list(as_iterator([report()])) == [report()]
    assert next(as_iterator(one for one in [report()])) == report()


def test_an_objective_of_its_own_needs_no_accuracy() -> None:
    metrics = checked(EpochMetrics(epoch=1, own={"rmse": np.float32(0.5), "depth": torch.tensor(3)}), objective="rmse")
    assert metrics.own == {"rmse": 0.5, "depth": 3.0}
    assert [type(value) for value in metrics.own.values()] == [float, float]
    assert checked(EpochMetrics(epoch=1, val_loss=93.1), objective="val_loss").val_accuracy is None
    assert checked(EpochMetrics(epoch=1, own={"rmse": -5}), objective="rmse").own == {"rmse": -5.0}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (report(), "did not report rmse, the objective of the study; yield EpochMetrics.epoch=..., own=.*'rmse': ..."),
        (report(own={"error": 1.0}), "did not report rmse"),
        (report(own={"rmse": "low"}), "own.'rmse'. as a str .*; it must be one number"),
        (report(own={"rmse": None}), "own.'rmse'. as None"),
        (report(own={"rmse": [1.0]}), "own.'rmse'. as a list"),
        (report(own=[("rmse", 1.0)]), "own as a list .*; it must be a dict of names and numbers"),
        (report(own={"rmse": 1.0, "val_loss": 2.0}), "the metric a str .'val_loss'. in own"),
        (report(own={"rmse": 1.0, 7: 2.0}), "the metric a int .7. in own"),
        (report(own={"rmse": 1.0, "a/b": 2.0}), "the metric a str .'a/b'. in own"),
        (report(own={"rmse": 1.0}, val_accuracy=93.1), "val_accuracy 93.1; it must be from 0 to 1"),
    ],
)
def test_a_wrong_report_of_an_own_objective_is_named(value: Any, message: str) -> None:
    with pytest.raises(ReportError, match=message):
        checked(value, objective="rmse")


@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_an_epoch_out_of_order_is_named(epoch: int) -> None:
    with pytest.raises(ReportError, match=f"epoch {epoch} after epoch 2; report every epoch once, in order"):
        checked(report(epoch=epoch), previous=2)
    assert checked(report(epoch=3), previous=2).epoch == 3


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("mute")


class Leaves(Exception):
    def __str__(self) -> str:
        sys.exit("from a text")


def test_an_exception_without_a_text_of_its_own_is_described() -> None:
    assert described(Mute()) == "Mute (its text cannot be shown: ValueError in __str__)"
    assert described(Leaves()) == "Leaves (its text cannot be shown: SystemExit in __str__)"
    assert described(KeyError("x")) == "KeyError: 'x'"
    assert described(ValueError()) == "ValueError"
