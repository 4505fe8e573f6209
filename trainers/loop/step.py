"""One optimiser step: the gradients of all micro-batches, clipping, the update and the averaged weights.

Numbers that change from step to step are set before it (`prepare`). On CUDA they are tensors of the device, so that the
work itself (`__call__`) needs nothing of the host and can be recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.api import TrainConfig
from trainers.loop import optimizers
from trainers.network.ema import WeightAverage
from trainers.network.model import Model
from trainers.numerics import Numerics


class TrainingStep:
    """The optimiser, the loss scaler and the averaged weights of one training, and what they do in a step."""

    def __init__(
        self,
        model: Model,
        train: TrainConfig,
        numerics: Numerics,
        *,
        forward: Callable[[Tensor], Tensor],
        class_weights: Tensor | None,
    ) -> None:
        self.numerics, self.forward, self.class_weights = numerics, forward, class_weights
        self.clip_grad = train.clip_grad
        self.parameters = [parameter for parameter in model.net.parameters() if parameter.requires_grad]
        """The trained parameters. Looking for them in all modules takes milliseconds in every step."""
        self.optimizer = optimizers.create(train, model.net, resident=numerics.resident)
        self.scaler = torch.amp.GradScaler(torch.device(numerics.device).type, enabled=numerics.scaled)
        self.average: WeightAverage | None = None
        if train.ema.decay:
            self.average = WeightAverage(train.ema, model.net, resident=numerics.resident)
        self.losses = torch.zeros((), device=numerics.device)
        """Sum of the mean losses of the steps since it was last set to 0, nats."""
        self._zeroes = numerics.scaled and not optimizers.skips_overflow(self.optimizer)

    def prepare(self, lr: float) -> None:
        """Set the learning rate and the averages' weight of the next step."""
        optimizers.set_lr(self.optimizer, lr)
        if self.average:
            self.average.prepare()

    def __call__(self, parts: Iterable[tuple[Tensor, Tensor]], batch: int) -> None:
        """Make one step with the micro-batches of a batch of `batch` images; add its mean loss to `losses`."""
        self.gradients(parts, batch)
        self.update()

    def gradients(self, parts: Iterable[tuple[Tensor, Tensor]], batch: int) -> None:
        """Compute the gradient of the mean loss of a batch; add that loss to `losses`."""
        self.optimizer.zero_grad(set_to_none=True)  # the first part then writes its gradient instead of adding it
        total = torch.zeros((), device=self.losses.device)
        for pixels, targets in parts:
            total += self.add_gradient(pixels, targets, len(pixels) / batch)
        self.losses += total

    def add_gradient(self, pixels: Tensor, targets: Tensor, share: float) -> Tensor:
        """Add the gradient of `share` times the mean loss of one micro-batch; return that product."""
        with self.numerics.autocast():
            logits = self.forward(pixels.contiguous(memory_format=self.numerics.memory_format))
        loss = F.cross_entropy(logits.float(), targets, weight=self.class_weights) * share
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def update(self) -> None:
        """Clip the gradient, change the weights and add them to their average."""
        if self.clip_grad or self._zeroes:
            self.scaler.unscale_(self.optimizer)
        if self.clip_grad:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.clip_grad)
        if self._zeroes:  # the scaler itself would wait for the device in every step
            optimizers.zero_overflow(self.optimizer)
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.add()

    def state(self) -> dict[str, Any]:
        """Return what `load` needs, except for the averaged weights."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema_steps": self.average.steps if self.average else 0,
        }

    def load(self, averages: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Continue from `state()` and the averaged weights of another training. Tensors stay where they are."""
        if self.average:
            self.average.load(averages, state["ema_steps"])
        optimizers.load(self.optimizer, state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])

    def clear(self) -> None:
        """Free the memory of the gradients, the optimiser and the averages. The step cannot be used afterwards."""
        self.average = None
        self.optimizer.state.clear()
        for parameter in self.parameters:
            parameter.grad = None
