"""How large a model is: parameters, and the work of one forward pass. Both follow from the configuration alone."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from trainers.network.model import Model


def parameters(model: Model) -> int:
    """All parameters, frozen ones and the classifier included."""
    return sum(parameter.numel() for parameter in model.net.parameters())


def macs(model: Model, size: int) -> int:
    """Multiply-accumulate operations of the forward pass of one image of `size` px.

    torch's own counter (`torch.utils.flop_counter`) sees every convolution, matrix product and attention, of which
    it counts multiplications and additions apart; normalisation, activations and pooling are not counted, as usual in
    the literature. Leaves the model in evaluation mode; counted once for each size.
    """
    if size not in model.macs:
        model.net.eval()
        image = torch.zeros(1, 3, size, size, device=next(model.net.parameters()).device)
        # Fused attention is another operation on each device, and the CPU's is unknown to the counter.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model.net(image)
        model.macs[size] = counter.get_total_flops() // 2
    return model.macs[size]
