"""Exponential moving average of weights and normalisation statistics, on the device."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from trainers.api import Ema


class WeightAverage:
    """Averages every floating tensor of a model's state; counters follow the model.

    A fixed decay d remembers about 1 / (1 - d) steps, more than a pruned trial ever makes; with warm-up the
    decay at step t is min(decay, (1 + t) / (10 + t)) (as TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, config: Ema, model: nn.Module) -> None:
        self.config = config
        self.steps = 0
        self._names = [name for name, value in model.state_dict().items() if value.is_floating_point()]
        state = model.state_dict()
        self._live = [state[name] for name in self._names]
        self._average = [value.clone() for value in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the model's state after one optimiser step; never waits for the device."""
        decay = self.config.decay
        if self.config.warmup:
            decay = min(decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._average, self._live, 1 - decay)
        self.steps += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights inside, in place, so that compiled graphs stay valid."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state(self) -> dict[str, Tensor]:
        """The averages by name."""
        return dict(zip(self._names, self._average, strict=True))

    def load(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Go on from `state()` and `steps` of another run."""
        with torch.no_grad():
            for name, average in zip(self._names, self._average, strict=True):
                average.copy_(state[name])
        self.steps = steps

    @torch.no_grad()
    def adopt(self, names: Collection[str]) -> None:
        """Forget the averages of `names` and start from the model's values, e.g. after a re-estimation."""
        for name, live, average in zip(self._names, self._live, self._average, strict=True):
            if name in names:
                average.copy_(live)

    @torch.no_grad()
    def _swap(self) -> None:
        for live, average in zip(self._live, self._average, strict=True):
            kept = live.clone()
            live.copy_(average)
            average.copy_(kept)
