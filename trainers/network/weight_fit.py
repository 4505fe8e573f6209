"""Which tensors of a file belong to which tensors of a model, and the model's classifier."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.models import model_entrypoint
from torch import Tensor, nn

from trainers.api import WeightsError

State = dict[str, Tensor]

_FILTERS = ("checkpoint_filter_fn", "checkpoint_filter_fn_classifier", "_filter_fn", "pretrained_filter_fn")
"""What timm's modules call the function that renames the tensors of a model's first publication."""
_COUNTER = ".num_batches_tracked"
"""Batch norm counts its batches under this name. Files of before PyTorch 0.4.1, and converted ones, lack it."""


@dataclass(frozen=True)
class _Fit:
    """The tensors that a model takes, and what stands against it."""

    state: State
    problems: list[str]
    wrong: int
    """How many tensors stand against it."""


def fitted(
    state: State, model: nn.Module, source: str, timm_filter: Callable[[State, nn.Module], State] | None = None
) -> State:
    """The tensors of `state` under the names of `model`, without a classifier of another number of classes.

    Tried in turn: the names as they are; without a prefix that a wrapper put before them (`model.`); and after
    timm's own function for the model, with and without the prefix.

    Raises:
        WeightsError: they are of another architecture.
    """
    plain = _without_prefix(state, model)
    named = [state] if plain is None else [state, plain]
    fits = [_fit(one, model) for one in named]
    if timm_filter is not None and all(fit.problems for fit in fits):
        fits += [_fit(one, model) for one in map(partial(_filtered, model, timm_filter), named) if one]
    best = min(fits, key=lambda fit: fit.wrong)
    if best.problems:
        raise WeightsError(
            f"{source} does not fit {type(model).__name__}: tensors {'; '.join(best.problems)}; "
            "model.name must be the architecture that the file was saved from"
        )
    return best.state


def timm_filter(name: str) -> Callable[[State, nn.Module], State] | None:
    """The function by which timm reads the first publication of a model; None where it has none."""
    module = vars(sys.modules[model_entrypoint(name.partition(".")[0]).__module__])
    return next((module[known] for known in _FILTERS if known in module), None)


def _filtered(model: nn.Module, change: Callable[..., Any], state: State) -> State | None:
    try:
        try:
            changed = change(dict(state), model)
        except TypeError:  # some of timm's take no model
            changed = change(dict(state))
    except (LookupError, AttributeError, RuntimeError, TypeError, ValueError):
        return None  # made for files of another shape; the names as they are say better what is wrong
    return {name: value for name, value in changed.items() if isinstance(value, Tensor)}


def _without_prefix(state: State, model: nn.Module) -> State | None:
    """The tensors behind the one prefix before the model's first name; None where there is none or more than one."""
    first = next(iter(model.state_dict()))
    prefixes = [name.removesuffix(first) for name in state if name.endswith(f".{first}")]
    if len(prefixes) != 1:
        return None
    (prefix,) = prefixes
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _fit(state: State, model: nn.Module) -> _Fit:
    own = model.state_dict()
    heads = classifier_names(model)
    kept = {
        name: value
        for name, value in state.items()
        if name not in heads or (name in own and own[name].shape == value.shape)
    }
    if any(name not in kept for name in heads):
        kept = {name: value for name, value in kept.items() if name not in heads}
    counters = [name for name in own if name.endswith(_COUNTER) and name not in kept]
    kept |= {name: torch.zeros((), dtype=torch.long, device="cpu") for name in counters}
    missing = [name for name in own if name not in kept and name not in heads]
    unknown = [name for name in kept if name not in own]
    shapes = [name for name in kept if name in own and own[name].shape != kept[name].shape]
    problems = [
        f"{len(names)} {what}, e.g. {names[0]}"
        for names, what in ((missing, "missing"), (unknown, "unknown"), (shapes, "of another shape"))
        if names
    ]
    return _Fit(kept, problems, len(missing) + len(unknown) + len(shapes))


def classifiers(model: nn.Module) -> list[nn.Module]:
    """The model's final layers; a few architectures have two."""
    found = model.get_classifier()  # type: ignore[operator]
    return list(found) if isinstance(found, tuple | list) else [found]


def classifier_names(model: nn.Module) -> set[str]:
    """Names of the final layers' tensors in the model's state dict."""
    heads = {id(head) for head in classifiers(model)}
    prefixes = [name for name, module in model.named_modules() if id(module) in heads]
    return {name for name in model.state_dict() if any(name.startswith(f"{prefix}.") for prefix in prefixes)}
