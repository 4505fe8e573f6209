"""Matching the tensors of a file to the tensors of a model, and the classifier of a model."""

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
"""Names, in timm's modules, of the function that renames the tensors of a model's original files."""
_COUNTER = ".num_batches_tracked"
"""Ending of batch norm's counters. Files older than PyTorch 0.4.1 and converted files do not have them."""
_OTHER_MODEL = "model.name must be the architecture that the file was saved from"
_ROUNDED = (
    "it seems to hold quantized weights, which cannot be trained; give the weights from before the quantization, as "
    "floating-point numbers"
)


@dataclass(frozen=True)
class _Fit:
    """The tensors for a model, and the problems that remain."""

    state: State
    problems: list[str]
    wrong: int
    """Number of tensors with a problem."""
    remedy: str
    """What to do about the problems."""


def fitted(
    state: State, model: nn.Module, source: str, timm_filter: Callable[[State, nn.Module], State] | None = None
) -> State:
    """Return the tensors of `state` with the names of `model`, without a classifier for another number of classes.

    The function tries the names as they are, then without the prefix of a wrapper (`model.`), and then both after
    timm's own function for the model.

    Raises:
        WeightsError: the tensors belong to another architecture. `source` names their origin in the text.
    """
    plain = _without_prefix(state, model)
    named = [state] if plain is None else [state, plain]
    fits = [_fit(renamed, model) for renamed in named]
    if timm_filter is not None and all(fit.problems for fit in fits):
        fits += [_fit(renamed, model) for renamed in map(partial(_filtered, model, timm_filter), named) if renamed]
    best = min(fits, key=lambda fit: fit.wrong)
    if best.problems:
        raise WeightsError(
            f"{source} does not fit {type(model).__name__}: tensors {'; '.join(best.problems)}; {best.remedy}"
        )
    return best.state


def timm_filter(name: str) -> Callable[[State, nn.Module], State] | None:
    """Return timm's function that reads the original files of a model, or None if there is none."""
    module = vars(sys.modules[model_entrypoint(name.partition(".")[0]).__module__])
    return next((module[function] for function in _FILTERS if function in module), None)


def _filtered(model: nn.Module, change: Callable[..., Any], state: State) -> State | None:
    try:
        try:
            changed = change(dict(state), model)
        except TypeError:  # some functions of timm have no parameter for the model
            changed = change(dict(state))
    except (LookupError, AttributeError, RuntimeError, TypeError, ValueError):
        return None  # the function expects another file; the original names give a better error message
    return {name: value for name, value in changed.items() if isinstance(value, Tensor)}


def _without_prefix(state: State, model: nn.Module) -> State | None:
    """The tensors without the prefix of the model's first name; None if there is no prefix, or more than one."""
    first = next(iter(model.state_dict()))
    prefixes = [name.removesuffix(first) for name in state if name.endswith(f".{first}")]
    prefix = min(prefixes, key=len, default="")  # inner blocks of the model may have a tensor of the same name
    if not all(other.startswith(prefix) for other in prefixes) or not prefix:
        return None
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
    whole = [
        name
        for name in kept
        if name in own and own[name].is_floating_point() and not kept[name].is_floating_point() and name not in shapes
    ]
    kinds = {"missing": missing, "unknown": unknown, "of another shape": shapes, "of whole numbers": whole}
    problems = [f"{len(names)} {problem}, e.g. {names[0]}" for problem, names in kinds.items() if names]
    return _Fit(kept, problems, sum(map(len, kinds.values())), _ROUNDED if whole else _OTHER_MODEL)


def classifiers(model: nn.Module) -> list[nn.Module]:
    """Return the final layers of a model; a few architectures have two."""
    layers = model.get_classifier()  # type: ignore[operator]
    return list(layers) if isinstance(layers, tuple | list) else [layers]


def classifier_names(model: nn.Module) -> set[str]:
    """Return the names of the final layers' tensors in the state dict."""
    heads = {id(head) for head in classifiers(model)}
    prefixes = [name for name, module in model.named_modules() if id(module) in heads]
    return {name for name in model.state_dict() if any(name.startswith(f"{prefix}.") for prefix in prefixes)}
