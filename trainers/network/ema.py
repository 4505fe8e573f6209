"""Exponential moving average of the weights and normalisation statistics, on the device."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trainers.api import Ema


class WeightAverage:
    """Averages all floating-point tensors of a model's state. Integer counters stay those of the model.

    A fixed decay d averages over about 1 / (1 - d) steps, which may be more than a pruned trial makes. With warm-up,
    the decay of step t is min(decay, (1 + t) / (10 + t)), as in TensorFlow's ExponentialMovingAverage.
    """

    def __init__(self, config: Ema, model: nn.Module, *, resident: bool = False) -> None:
        """
        Args:
            resident: whether the weight of an update is a tensor on the device, so that `add` can be recorded.
        """
        self.config = config
        self.steps = 0
        self._names = [name for name, value in model.state_dict().items() if value.is_floating_point()]
        state = model.state_dict()
        self._live = [state[name] for name in self._names]
        self._average = [value.clone() for value in self._live]
        self._weight: Tensor | float = torch.zeros((), device=self._live[0].device) if resident else 0.0

    def update(self) -> None:
        """Add the model's present state to the average, after each optimiser step. Never waits for the device."""
        self.prepare()
        self.add()

    def prepare(self) -> None:
        """The host's part of an update: set the weight that the model's state will have, and count the update."""
        decay = self.config.decay
        if self.config.warmup:
            decay = min(decay, (1 + self.steps) / (10 + self.steps))
        if isinstance(self._weight, Tensor):
            self._weight.fill_(1 - decay)
        else:
            self._weight = 1 - decay
        self.steps += 1

    @torch.no_grad()
    def add(self) -> None:
        """The device's part of an update."""
        if not isinstance(self._weight, Tensor):
            torch._foreach_lerp_(self._average, self._live, self._weight)
            return
        # With a tensor as its weight, `_foreach_lerp_` would start one kernel for each tensor.
        change = torch._foreach_sub(self._live, self._average)
        torch._foreach_mul_(change, self._weight)
        torch._foreach_add_(self._average, change)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights inside the block, in place, so that compiled graphs stay valid."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state(self) -> dict[str, Tensor]:
        """Return the averages by name."""
        return dict(zip(self._names, self._average, strict=True))

    def load(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Continue from `state()` and `steps` of an earlier run."""
        with torch.no_grad():
            for name, average in zip(self._names, self._average, strict=True):
                average.copy_(state[name])
        self.steps = steps

    @torch.no_grad()
    def adopt(self, names: Collection[str]) -> None:
        """Replace the averages of `names` by the model's present values, e.g. after a re-estimation."""
        for name, live, average in zip(self._names, self._live, self._average, strict=True):
            if name in names:
                average.copy_(live)

    @torch.no_grad()
    def _swap(self) -> None:
        kept = [live.clone() for live in self._live]
        torch._foreach_copy_(self._live, self._average)
        torch._foreach_copy_(self._average, kept)
