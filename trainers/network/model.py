"""Models that are built once per process and architecture, and reset in place for each trial.

The initial weights of a trial depend on its configuration and seed only. So a trial starts in the same way on a worker
that has run other trials and on a new worker.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from timm.models import group_parameters
from torch import Tensor, nn

from trainers.api import ModelConfig, TrainerError
from trainers.network import architecture, weight_fit, weights
from trainers.rng import derive, isolated

KEPT = 2
"""Number of architectures that a process keeps; the least recently used one is dropped first."""


@dataclass(eq=False)
class Model:
    """A timm classifier on its device, with the data that the training loop needs."""

    net: nn.Module
    mean: tuple[float, ...]
    """Mean of each channel for pixel values from 0 to 1, as used for the pretrained weights."""
    std: tuple[float, ...]
    """Standard deviation of each channel, likewise."""
    dropout: Dropout
    """Dropout before the classifier."""
    frozen: list[nn.Module] = field(default_factory=list)
    """Normalisation layers whose statistics do not change in training."""
    compiled: Any = None
    """The compiled `net`, kept with its graphs for the next trial."""
    size_options: Mapping[str, Any] = field(default_factory=dict)
    """timm's options that let the model take the sizes of the training."""
    macs: dict[int, int] = field(default_factory=dict)
    """Multiply-accumulate operations for one image by image size, filled by `trainers.network.model_size`."""

    def train(self) -> None:
        """Switch to training mode, except for frozen normalisation layers."""
        self.net.train()
        for module in self.frozen:
            module.eval()


class Dropout:
    """Dropout on the input of the classifier, at a rate that may change between epochs.

    timm's models store their dropout rate in different ways; this class works for all of them. The rate is a tensor,
    so that a compiled graph does not depend on its value.
    """

    def __init__(self, device: torch.device) -> None:
        self.rate = torch.zeros((), device=device)

    def set(self, rate: float) -> None:
        """Set the rate, 0 to below 1."""
        self.rate.fill_(rate)

    def __call__(self, module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Apply dropout: the forward pre-hook of the classifier."""
        if not module.training:
            return arguments
        features, *rest = arguments
        # Random numbers in float32, because bf16 has only 256 values below 1.
        keep = torch.rand(features.shape, device=features.device) >= self.rate
        return (features * (keep / (1 - self.rate)).to(features.dtype), *rest)


_kept: dict[tuple[Any, ...], Model] = {}


def build(
    config: ModelConfig,
    num_classes: int,
    *,
    seed: int,
    device: str,
    channels_last: bool,
    sizes: Collection[int] = (),
) -> Model:
    """Return the model in its initial state for `seed`, reusing the process's model of the same architecture.

    `sizes` are the image sizes of the training and the evaluation, pixels.

    A classifier without weights, or with weights for another number of classes, gets new random weights. The process
    has one copy of each model: the next `build` of the same architecture resets it.

    Raises:
        WeightsError: the model is unknown, or its weights are not available or do not fit.
    """
    size_options = architecture.size_options(config.name, frozenset(sizes))
    key = (replace(config, pretrained=False), num_classes, device, channels_last, *size_options.items())
    create = partial(_create, config, num_classes, seed, sizes)
    model = _kept.pop(key, None) or _wrap(create(), device, channels_last)
    model.size_options = size_options
    if config.pretrained is not False:
        state = {**_fresh_head(model.net, create, seed), **weights.pretrained_state(config, model.net, sizes)}
    else:
        created = create()
        state = {**created.state_dict(), **_fresh_head(created, create, seed)}
    _reset(model, state)
    _kept[key] = model
    while len(_kept) > KEPT:
        del _kept[next(iter(_kept))]
    return model


def freeze(model: Model, blocks: int) -> None:
    """Exclude the stem and the first `blocks` stages from training, with their statistics; 0 freezes nothing.

    Raises:
        TrainerError: the model has too few stages.
    """
    if not blocks:
        return
    net: Any = model.net
    groups: dict[str, int] = group_parameters(net, net.group_matcher(coarse=True), reverse=True)
    heads = weight_fit.classifier_names(net)
    stages = max(group for name, group in groups.items() if name not in heads)
    if blocks >= stages:
        raise TrainerError(
            f"train.freeze_blocks: {blocks} would leave only the head of {type(net).__name__} to train; it has "
            f"{stages} stages after its stem, so the most is {stages - 1}"
        )
    frozen = {name for name, group in groups.items() if group <= blocks}
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name not in frozen)
    model.frozen = [
        module
        for prefix, module in net.named_modules()
        if getattr(module, "running_mean", None) is not None and f"{prefix}.weight" in frozen
    ]


def _create(config: ModelConfig, num_classes: int, seed: int, sizes: Collection[int]) -> nn.Module:
    with isolated(derive(seed, "weights")):
        return architecture.create(config, num_classes, sizes)


def _wrap(net: nn.Module, device: str, channels_last: bool) -> Model:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = net.to(memory_format=layout).to(device)
    dropout = Dropout(torch.device(device))
    for classifier in weight_fit.classifiers(net):
        classifier.register_forward_pre_hook(dropout)
    described: Any = net
    config = described.pretrained_cfg
    return Model(net=net, mean=tuple(config["mean"]), std=tuple(config["std"]), dropout=dropout)


def _fresh_head(net: nn.Module, create: Callable[[], nn.Module], seed: int) -> dict[str, Tensor]:
    """The classifier with torch's default initialisation; with that of `create` if it has other layers.

    timm draws the classifier of an EfficientNet from +-1 / sqrt(classes), as TensorFlow does for 1,000 classes. With 10
    classes, the first loss would be twice that of guessing.
    """
    heads = weight_fit.classifiers(net)
    if not all(isinstance(head, nn.Linear | nn.Conv2d) for head in heads):
        created = create()
        return {name: created.state_dict()[name] for name in weight_fit.classifier_names(created)}
    state: dict[str, Tensor] = {}
    names = {id(module): name for name, module in net.named_modules()}
    with isolated(derive(seed, "head")):
        for head in heads:
            # Initialised on the CPU, so that a trial starts with the same weights on every device.
            fresh: Any = copy.deepcopy(head).cpu()
            fresh.reset_parameters()
            state.update({f"{names[id(head)]}.{key}": value for key, value in fresh.state_dict().items()})
    return state


def _reset(model: Model, state: dict[str, Tensor]) -> None:
    model.net.load_state_dict(state)
    model.net.requires_grad_(True)
    model.net.zero_grad(set_to_none=True)
    model.dropout.set(0.0)
    model.frozen = []
