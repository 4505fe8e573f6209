"""Specifications drawn at random: any setting of a training, at any value that its annotation allows.

The settings are read from the configuration's annotations, so a new setting is drawn without a change here. Only what
would take long, or need a download, is drawn from values of its own.
"""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any, Literal, Union

import numpy as np

from hpo.validation.settings import searchable, settings
from trainers.constraints import Range

MODELS = (
    "test_efficientnet",
    "test_efficientnet_gn",
    "test_efficientnet_evos",
    "test_resnet",
    "test_byobnet",
    "test_nfnet",
    "test_convnext",
    "test_mambaout",
    "test_vit",
    "lcnet_035",
)
"""Ten of timm's smallest models: convolutions, attention and gates, with every kind of normalisation and with none."""

SIZES = (16, 24, 32, 32, 33, 40, 48)
QUICK: dict[str, tuple[Any, ...]] = {
    "data.name": ("shapes",),
    "data.root": ("data",),
    "data.hub": (None,),
    "data.train_limit": (1, 2, 3, 9, 16, 17, 24),
    "data.validation_limit": (1, 5, 12),
    "model.name": MODELS,
    "model.pretrained": (False,),
    "train.epochs": (1, 2, 3),
    "train.batch_size": (1, 2, 3, 8, 16, 40, "auto"),
    "train.lr": (1e-6, 1e-4, 1e-3, 1e-2, 0.1),
    "train.warmup_epochs": (0.0, 0.5, 0.9),
    "train.compile": (False,),
    "train.eval_size": (None, *SIZES),
    "train.compute_size": (None, *SIZES),
    "train.progressive.stages": (1, 1, 2, 3),
    "train.progressive.size.start": (16, 20, 32),
    "train.progressive.size.end": (32, 33, 48),
}
"""Values of settings whose defaults, or most values, would take long."""

USUAL = {"train.optimizer", "train.precision", "train.schedule", "train.augment.crop"} | QUICK.keys()
"""Settings that are always drawn; the others have their default in every second specification."""


def specification(rng: np.random.Generator) -> dict[str, Any]:
    """A study of the shipped trainer with one to three searched settings. It may break rules between settings."""
    drawn = {name: value(name, rng) for name in settings() if name in USUAL or rng.random() < 0.5}
    drawn["train.progressive.sizes"] = _sizes(drawn["train.progressive.stages"], rng)
    drawn["train.epochs"] = max(drawn["train.epochs"], drawn["train.progressive.stages"])
    if not drawn.get("train.ema.decay") and drawn.get("train.score") == "ema":
        del drawn["train.score"]
    names = rng.choice(searchable(), size=rng.integers(1, 4), replace=False)
    space = {str(name): _parameter(str(name), rng) for name in names}
    if any(name.startswith("train.progressive.size.") for name in space):
        del drawn["train.progressive.sizes"]
    text: dict[str, Any] = {"study": "generated", "search": {"policy": "random"}, "space": space}
    for name, chosen in drawn.items():
        if name not in space:
            _set(text, name.split("."), chosen)
    return text


def value(name: str, rng: np.random.Generator) -> Any:
    """A value of a setting."""
    if name in QUICK:
        return QUICK[name][rng.integers(len(QUICK[name]))]
    return _of(settings()[name], rng)


def _of(hint: Any, rng: np.random.Generator) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return _of(arguments[rng.integers(len(arguments))], rng)
    if origin is Literal:
        return arguments[rng.integers(len(arguments))]
    if origin is Annotated:
        return _number(arguments[0] is int, next(rule for rule in arguments[1:] if isinstance(rule, Range)), rng)
    if hint is bool:
        return bool(rng.integers(2))
    return None


def _number(whole: bool, rule: Range, rng: np.random.Generator) -> int | float:
    """An end of the range, or a number between; a range without an upper end reaches up to 5."""
    low = rule.ge if rule.ge is not None else rule.gt or 0.0
    high = rule.le if rule.le is not None else rule.lt if rule.lt is not None else low + 5
    if whole:
        return int(rng.choice([low, high, rng.integers(int(low), int(high) + 1)]))
    nearly = (high - low) * 1e-3
    ends = (low if rule.ge is not None else low + nearly, high if rule.le is not None else high - nearly)
    return float(rng.choice([*ends, rng.uniform(*ends)]))


def _sizes(stages: int, rng: np.random.Generator) -> list[int] | None:
    return sorted(map(int, rng.choice(SIZES, size=stages))) if rng.random() < 0.5 else None


def _parameter(name: str, rng: np.random.Generator) -> dict[str, Any]:
    """A range if the values are numbers, else choices."""
    values = [value(name, rng) for _ in range(3)]
    if all(isinstance(one, float) for one in values):
        return {"type": "float", "low": min(values), "high": max(values)}
    if all(isinstance(one, int) and not isinstance(one, bool) for one in values):
        return {"type": "int", "low": min(values), "high": max(values)}
    different: list[Any] = []
    for one in values:
        if not any(one == other and type(one) is type(other) for other in different):
            different.append(one)
    return {"type": "categorical", "choices": different}


def _set(text: dict[str, Any], keys: list[str], chosen: Any) -> None:
    *parents, leaf = keys
    for key in parents:
        text = text.setdefault(key, {})
    text[leaf] = chosen
