"""Forward and backward as one CUDA graph per shape, started at once instead of kernel by kernel.

A small network keeps a fast GPU waiting for the host, which starts some thousand kernels per step. A recorded step is
started by one call and computes the same, random numbers included (https://pytorch.org/docs/stable/notes/cuda.html,
"CUDA Graphs"). Optimiser, average and augmentation stay outside: they start few kernels, and read numbers that change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from trainers.api import TrainerError
from trainers.numerics import lacks_memory

Step = Callable[[Tensor, Tensor, float], Tensor]
"""Adds the gradient of `share` times the mean loss of (images, targets) to the parameters' own; returns that loss."""

WARM_UP = 3
"""Steps before the recording, in which libraries choose kernels and get their memory."""


@dataclass(frozen=True)
class _Recorded:
    """A graph, and the tensors that it reads and writes."""

    pixels: Tensor
    targets: Tensor
    loss: Tensor
    replay: Callable[[], None]


class GraphedStep:
    """Has a `Step` recorded when a shape comes first, and replays it from then on.

    The parameters' gradients exist from the beginning and stay where they are: `zero_grad` of this object, not of the
    optimiser, begins a batch. Only the graphs of one image size are kept, which a training never goes back from.
    """

    def __init__(self, net: nn.Module, device: str) -> None:
        self._net, self._device = net, device
        self._recorded: dict[tuple[Any, ...], _Recorded] = {}
        self._trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
        for parameter in self._trained:
            parameter.grad = torch.zeros_like(parameter)

    def zero_grad(self) -> None:
        """Forget the last batch, in place."""
        torch._foreach_zero_(self._gradients())

    def __call__(self, step: Step, pixels: Tensor, targets: Tensor, share: float) -> Tensor:
        """As `step(pixels, targets, share)`, the same one at every call; the loss is overwritten by the next.

        Raises:
            TrainerError: the network does something that cannot be recorded, such as waiting for the device.
        """
        shape = (*pixels.shape, share)
        if shape not in self._recorded:
            if any(known[1:-1] != shape[1:-1] for known in self._recorded):
                self.clear()  # before memory for the next size is asked for
            self._recorded[shape] = self._record(step, pixels, targets, share)
        recorded = self._recorded[shape]
        recorded.pixels.copy_(pixels)
        recorded.targets.copy_(targets)
        recorded.replay()
        return recorded.loss

    def clear(self) -> None:
        """Give up all graphs and their memory."""
        self._recorded.clear()

    def _gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self._trained if parameter.grad is not None]

    def _record(self, step: Step, pixels: Tensor, targets: Tensor, share: float) -> _Recorded:
        pixels, targets = pixels.clone(), targets.clone()
        touched = [*self._net.buffers(), *self._gradients()]
        before = [tensor.clone() for tensor in touched]
        cuda = [torch.device(self._device)] if self._device.startswith("cuda") else []
        try:
            with torch.random.fork_rng(devices=cuda):
                loss, replay = record(lambda: step(pixels, targets, share), self._device)
        except RuntimeError as error:
            for one in (error, error.__context__):  # ending the recording may fail because of it
                if isinstance(one, RuntimeError) and lacks_memory(one):
                    raise one from None
            reason = str(error).strip().partition("\n")[0]
            raise TrainerError(
                f"train.cuda_graphs: a step of {type(self._net).__name__} cannot be recorded ({reason}); switch it off"
            ) from error
        with torch.no_grad():
            for tensor, value in zip(touched, before, strict=True):
                tensor.copy_(value)
        return _Recorded(pixels, targets, loss, replay)


def record(work: Callable[[], Tensor], device: str) -> tuple[Tensor, Callable[[], None]]:
    """Record `work`, after a warm-up in which it really runs; returns its result's place and what repeats it.

    The recording itself computes nothing. Memory of the graph is its own until the graph is gone.
    """
    with torch.cuda.device(device):
        side, main = _stream(device), torch.cuda.current_stream()
        side.wait_stream(main)
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                work()
        main.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            result = work()
    return result, graph.replay


@cache
def _stream(device: str) -> Any:
    """One stream for every warm-up and recording: autograd's nodes remember the stream that they were made on, and a
    recording that meets one of another stream fails."""
    cuda: Any = torch.cuda
    return cuda.Stream(device)
