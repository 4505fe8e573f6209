"""The size of a model: its parameters and the operations of one forward pass."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from trainers.network.model import Model


def parameters(model: Model) -> int:
    """Return the number of parameters, with frozen ones and the classifier."""
    return sum(parameter.numel() for parameter in model.net.parameters())


def macs(model: Model, size: int) -> int:
    """Return the multiply-accumulate operations of the forward pass of one image of `size` px.

    torch's counter (`torch.utils.flop_counter`) counts multiplications and additions of convolutions, matrix products
    and attention. Normalisation, activations and pooling do not count, as usual in the literature. The count is made
    once per size, and leaves the model in evaluation mode.
    """
    if size not in model.macs:
        model.net.eval()
        image = torch.zeros(1, 3, size, size, device=next(model.net.parameters()).device)
        trained = [parameter for parameter in model.net.parameters() if parameter.requires_grad]
        # The counter fails on a trained parameter that is passed between modules, as the class tokens of CaiT and PiT.
        model.net.requires_grad_(False)
        try:
            # Fused attention is a different operation on each device, and the counter does not know that of the CPU.
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                model.net(image)
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
        model.macs[size] = counter.get_total_flops() // 2
    return model.macs[size]
