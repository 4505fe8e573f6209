"""Networks from timm's factory, with options that make a setting mean what it says, and for any image size."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

import timm
import torch
from torch import nn

from trainers.api import ModelConfig, WeightsError
from trainers.network import catalogue

_DIVISORS = 64 * 7
"""Strides, patches and windows of timm's models have sides of powers of 2, or 7 or 14."""


def create(config: ModelConfig, num_classes: int, sizes: Collection[int] = ()) -> nn.Module:
    """Return the model on the CPU with timm's random initialisation, which uses torch's default generator.

    Args:
        sizes: image sizes of the training and the evaluation, pixels.

    Raises:
        WeightsError: timm has no model of this name (the text gives similar names), or the model has no stochastic
            depth and `drop_path` is above 0.
    """
    if not catalogue.known_model(config.name):
        raise WeightsError(catalogue.unknown(config.name))
    # Some models have their own rates, which timm uses if an option is left out. Dropout is `model.Dropout`.
    options = {"drop_path_rate": config.drop_path, "drop_rate": 0.0}
    model = _construct(config.name, num_classes, options, size_options(config.name, frozenset(sizes)))
    if config.bn_momentum is not None:
        for module in batch_norms(model):
            module.momentum = config.bn_momentum
    return model


def batch_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    """Return the batch-norm layers of a model."""
    return [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


@functools.lru_cache(maxsize=64)
def size_options(name: str, sizes: frozenset[int]) -> Mapping[str, Any]:
    """Return timm's options with which a model takes images of all `sizes`, or of as many as possible; often none.

    A model of a fixed size is created for another size, or with position embeddings that timm resamples for each size.
    """
    if not sizes or not fixed_size(name):
        return {}
    largest = max(sizes)
    ways: list[dict[str, Any]] = [{}, {"img_size": largest, "dynamic_img_size": True}, {"img_size": largest}]
    best, fewest = ways[0], len(sizes) + 1
    for way in ways:
        refused = len(meta_network(name, tuple(way.items())).refusals(sizes))
        if refused < fewest:
            best, fewest = way, refused
        if not refused:
            break
    return best


@functools.lru_cache(maxsize=64)
def has_stochastic_depth(name: str) -> bool:
    """Return whether timm's model has an option for it; False for a model that timm does not know."""
    if not catalogue.known_model(name):
        return False
    try:
        with torch.device("meta"):
            _construct(name, 1, {"drop_path_rate": 0.1}, {})
    except WeightsError:
        return False
    return True


def fixed_size(name: str) -> bool:
    """Return whether timm's model takes images of one size only, unless options say otherwise."""
    config = timm.get_pretrained_cfg(name)
    return bool(config and config.fixed_input_size)


def own_size(name: str) -> int:
    """Return the image size of a model's pretrained weights, pixels; 224 if timm names none."""
    config = timm.get_pretrained_cfg(name)
    return int(config.input_size[-1]) if config else 224


class MetaNetwork:
    """A network without memory, on torch's meta device, to find out what it refuses."""

    CLASSES = 10

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.name = name
        self.options = options
        self.adaptable = not fixed_size(name)
        self._reasons: dict[int, str | None] = {}
        """Why the network refuses a size, by the sizes that were tried."""
        self._accepted: dict[int, int] = {}
        """The smallest size that the network took, by the divisors of the size."""

    @functools.cached_property
    def net(self) -> nn.Module:
        """The network. timm's constructors raise exceptions of any type."""
        with torch.device("meta"):
            return _construct(self.name, self.CLASSES, {"drop_path_rate": 0.0, "drop_rate": 0.0}, self.options)

    def refusals(self, sizes: Collection[int]) -> dict[int, str]:
        """Return the reasons by image size, pixels.

        A network for any size refuses those that are too small, or that a stride, patch or window does not divide. So
        a size is not tried if a smaller one that has no more divisors passed.
        """
        for size in sorted(sizes):
            if size not in self._reasons:
                self._reasons[size] = self._refusal(size)
        return {size: reason for size in sorted(sizes) if (reason := self._reasons[size])}

    def _refusal(self, size: int) -> str | None:
        divisors = math.gcd(size, _DIVISORS)
        known = (size >= taken and divisors % others == 0 for others, taken in self._accepted.items())
        if self.adaptable and any(known):
            return None
        try:
            with torch.no_grad():
                logits = self.net(torch.zeros(2, 3, size, size, device="meta"))
        except Exception as error:  # noqa: BLE001 - each architecture refuses in its own way
            return re.split(r"[.;!]?(?:\s*\n|$)|[.;!]\s", str(error))[0] or type(error).__name__
        shape = tuple(getattr(logits, "shape", ()))
        if shape != (2, self.CLASSES):
            return "it is no classifier: it does not give one number per class"
        self._accepted[divisors] = size
        return None


@functools.lru_cache(maxsize=32)
def meta_network(name: str, options: tuple[tuple[str, Any], ...] = ()) -> MetaNetwork:
    """Return the network of a model, with what it has refused so far: a search asks for the same one many times."""
    return MetaNetwork(name, dict(options))


def _construct(name: str, num_classes: int, rates: dict[str, Any], sizes: Mapping[str, Any]) -> nn.Module:
    """timm's model with those of the `rates` that its constructor takes."""
    rates = dict(rates)
    while True:
        try:
            model: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes, **rates, **sizes)
            return model
        except TypeError as error:
            refused = next((rate for rate in rates if f"'{rate}'" in str(error)), None)
            if refused is None:
                raise
            if rates.pop(refused):
                raise WeightsError(
                    f"model.drop_path: {name} has no stochastic depth; set model.drop_path to 0"
                ) from error
