"""Optimisers from timm's factory, with the meaning of momentum and weight decay that `trainers.config` gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm import optim
from torch import Tensor, nn

from trainers.api import TrainConfig
from trainers.network.weight_fit import classifier_names

RMSPROP_ALPHA = 0.9
RMSPROP_EPS = 1e-3
"""RMSprop of TensorFlow, as in google/automl's EfficientNetV2 (decay 0.9, epsilon 0.001)."""


FUSED = ("adamw", "sgd")
"""The optimisers for which torch has fused kernels, on CUDA and on the CPU. They need nothing of the host in a step."""
HOW = ("lr", "fused", "capturable")
"""Options of an optimiser that depend on the device. `set_lr` sets the learning rate before every step."""


def create(train: TrainConfig, model: nn.Module, *, resident: bool = False) -> torch.optim.Optimizer:
    """Return the optimiser for all parameters that are trained.

    With `resident`, the learning rates of a fused optimiser are tensors on the device, and its state is there from the
    beginning, so that a CUDA graph can record its steps.

    Normalisation layers and biases get no weight decay. With `layer_decay`, each group has an `lr_scale`: `layer_decay`
    to the power of its distance from the head (see `set_lr`). Muon orthogonalises the updates of matrices and
    convolutions; vectors and the classifier are trained by AdamW.
    """
    options = _options(train, model)
    if train.optimizer in FUSED:
        options["fused"] = True
    optimizer: torch.optim.Optimizer = optim.create_optimizer_v2(  # type: ignore[attr-defined]
        model,
        opt=timm_name(train),
        lr=train.lr,
        weight_decay=train.weight_decay,
        layer_decay=train.layer_decay if train.layer_decay < 1 else None,
        **options,
    )
    if isinstance(optimizer, torch.optim.SGD) and train.momentum:
        _start_momentum(optimizer)
    if resident and train.optimizer in FUSED:
        _settle(optimizer)
    return optimizer


def _start_momentum(optimizer: torch.optim.SGD) -> None:
    """Begin with a momentum of 0, from which the first step is the same as without any.

    torch would make the buffers in the first step, without values. If fp16 overflows there and the step is skipped, the
    second step would take what happens to be in memory for the momentum.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _settle(optimizer: torch.optim.Optimizer) -> None:
    """Give a fused optimiser all of its tensors, on the device of the parameters, where they stay."""
    device = optimizer.param_groups[0]["params"][0].device
    scales = [group.get("lr_scale", 1.0) for group in optimizer.param_groups]
    # torch's kernels read the rate as float32 on CUDA, and as a number of Python's precision on the CPU.
    kind = torch.float64 if device.type == "cpu" else torch.float32
    rates = torch.zeros(len(scales), dtype=kind, device=device)
    for group, rate in zip(optimizer.param_groups, rates.unbind(), strict=True):
        group["lr"] = rate
    settled: Any = optimizer
    settled.rates, settled.scales = rates, torch.tensor(scales, dtype=kind, device=device)
    if not isinstance(optimizer, torch.optim.AdamW):
        return
    for group in optimizer.param_groups:
        group["capturable"] = device.type == "cuda"
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }


def is_resident(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether a step of the optimiser reads and writes tensors of the device only."""
    return isinstance(optimizer.param_groups[0]["lr"], Tensor)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of the head; other groups get it times their `lr_scale`."""
    if is_resident(optimizer):
        settled: Any = optimizer
        torch.mul(settled.scales, lr, out=settled.rates)
        return
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


def load(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Continue from the `state_dict()` of another optimiser with the same settings.

    The tensors that the optimiser has stay in place and get the values, because a recorded step reads them there. How
    it computes stays as well, in case the other one ran on another device.
    """
    options = [{name: group[name] for name in HOW if name in group} for group in optimizer.param_groups]
    present = {parameter: dict(values) for parameter, values in optimizer.state.items()}
    optimizer.load_state_dict(dict(state))
    for group, own in zip(optimizer.param_groups, options, strict=True):
        group.update(own)
    for parameter, values in present.items():
        loaded = optimizer.state[parameter]
        for name, value in values.items():
            if isinstance(value, Tensor) and name in loaded:
                loaded[name] = value.copy_(loaded[name])


def skips_overflow(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether the optimiser itself skips steps with infinite gradients, as torch's fused optimisers do."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


@torch.no_grad()
def zero_overflow(optimizer: torch.optim.Optimizer) -> None:
    """Set all gradients to 0 if any is infinite or NaN, without waiting for the device.

    This is for optimisers that cannot skip a step. They then make a step with momentum and weight decay only. Its
    effect is small, because most overflows happen in the first steps, while the scaler searches its scale.
    """
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    overflowed = ~torch.stack(torch._foreach_norm(gradients)).isfinite().all()
    for gradient in gradients:
        gradient.masked_fill_(overflowed, 0.0)


def timm_name(train: TrainConfig) -> str:
    """Return timm's name for the optimiser.

    timm's `sgd` is Nesterov's, and refuses a momentum of 0, where both forms are the same; its `momentum` is classical.
    """
    if train.optimizer == "sgd":
        return "sgd" if train.nesterov and train.momentum else "momentum"
    return "rmsproptf" if train.optimizer == "rmsprop" else train.optimizer


def _options(train: TrainConfig, model: nn.Module) -> dict[str, Any]:
    if train.optimizer == "adamw":
        return {"betas": (train.momentum, 0.999)}
    if train.optimizer == "lamb":  # its own default clips to norm 1, independent of `clip_grad`
        return {"betas": (train.momentum, 0.999), "max_grad_norm": None}
    if train.optimizer == "rmsprop":
        return {"momentum": train.momentum, "alpha": RMSPROP_ALPHA, "eps": RMSPROP_EPS}
    if train.optimizer == "muon":
        return {
            "momentum": train.momentum,
            "betas": (train.momentum, 0.999),
            "fallback_list": sorted(classifier_names(model)),
        }
    return {"momentum": train.momentum}
