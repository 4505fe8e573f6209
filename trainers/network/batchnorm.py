"""Re-estimation of batch-norm statistics, for a network whose image size has changed; batches without statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trainers.api import TrainerError

BATCHES = 20
"""Number of batches for the statistics. Their mean is stable after far fewer."""


@torch.no_grad()
def reestimate(net: nn.Module, forward: Callable[[Tensor], None], batches: Iterable[Tensor]) -> list[str]:
    """Replace running means and variances by their averages over `batches`; return the names of the changed tensors.

    Each batch is float32 (B, 3, S, S), normalised. Only layers in training mode change, so frozen layers keep their
    statistics.
    """
    layers: dict[str, Any] = {
        name: module
        for name, module in net.named_modules()
        if getattr(module, "running_mean", None) is not None and module.training
    }
    momenta = {name: layer.momentum for name, layer in layers.items()}
    for layer in layers.values():
        layer.reset_running_stats()
        layer.momentum = None  # None makes torch compute the plain average over all batches
    try:
        for batch in batches:
            forward(batch)
    finally:
        for name, layer in layers.items():
            layer.momentum = momenta[name]
    return [f"{name}.{kind}" for name in layers for kind in ("running_mean", "running_var")]


def lacks_values(error: Exception) -> bool:
    """Return whether torch refuses to normalise a single value per channel, as after one image's last convolution."""
    return "Expected more than 1 value per channel" in str(error)


def single_value_rule(size: int) -> str:
    """Return why a network cannot train on batches of one image of `size` px, and the remedy."""
    return (
        f"a batch of one image of {size} px leaves a normalisation layer a single value per channel; use at least two "
        "images per batch, or larger images"
    )


@contextmanager
def single_value_errors(size: int) -> Iterator[None]:
    """Convert torch's refusal to normalise a single value into a `TrainerError`, for images of `size` px."""
    try:
        yield
    except (ValueError, RuntimeError) as error:  # RuntimeError: as torch.compile reports it
        if not lacks_values(error):
            raise
        raise TrainerError(f"train.batch_size: {single_value_rule(size)}") from error
