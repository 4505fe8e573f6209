"""Batch-norm statistics counted anew, for a network that now sees images of another size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

BATCHES = 20
"""Batches that statistics are counted over; their mean is steady after far fewer."""


@torch.no_grad()
def reestimate(net: nn.Module, forward: Callable[[Tensor], None], batches: Iterable[Tensor]) -> list[str]:
    """Replace running means and variances by their averages over `batches`, each (B, 3, S, S) normalised.

    Only layers in training mode are touched, so frozen ones keep theirs. Returns the names of the tensors
    that changed.
    """
    layers: dict[str, Any] = {
        name: module
        for name, module in net.named_modules()
        if getattr(module, "running_mean", None) is not None and module.training
    }
    momenta = {name: layer.momentum for name, layer in layers.items()}
    for layer in layers.values():
        layer.reset_running_stats()
        layer.momentum = None  # torch's word for a plain average over all batches
    try:
        for batch in batches:
            forward(batch)
    finally:
        for name, layer in layers.items():
            layer.momentum = momenta[name]
    return [f"{name}.{kind}" for name in layers for kind in ("running_mean", "running_var")]
