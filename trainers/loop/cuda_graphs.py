"""Forward and backward pass as one CUDA graph per shape, started by one call instead of kernel by kernel.

With a small network, a fast GPU waits for the host, which starts about a thousand kernels per step. A recorded step
starts with one call and computes the same, random numbers included (https://pytorch.org/docs/stable/notes/cuda.html,
"CUDA Graphs"). The optimiser, the averaged weights and the augmentation are not recorded: they start few kernels and
read numbers that change.
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
"""`step(images, targets, share)` adds the gradient of `share` times the mean loss to the parameters' gradients and
returns that loss."""

WARM_UP = 3
"""Steps before the recording, in which libraries choose kernels and allocate memory."""


@dataclass(frozen=True)
class _Recorded:
    """A graph and the tensors that it reads and writes."""

    pixels: Tensor
    targets: Tensor
    loss: Tensor
    replay: Callable[[], None]


class GraphedStep:
    """Records a `Step` when a shape comes for the first time, and replays the recording from then on.

    The gradients of the parameters are allocated once and stay in place. So a batch must begin with `zero_grad` of this
    object, not of the optimiser. Only the graphs of one image size are kept, because a training does not
    return to an earlier size.
    """

    def __init__(self, net: nn.Module, device: str) -> None:
        self._net, self._device = net, device
        self._recorded: dict[tuple[Any, ...], _Recorded] = {}
        self._trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
        for parameter in self._trained:
            parameter.grad = torch.zeros_like(parameter)

    def zero_grad(self) -> None:
        """Set all gradients to zero, in place."""
        torch._foreach_zero_(self._gradients())

    def __call__(self, step: Step, pixels: Tensor, targets: Tensor, share: float) -> Tensor:
        """Return the loss of `step(pixels, targets, share)`; the next call overwrites it.

        `step` must be the same in every call.

        Raises:
            TrainerError: the network cannot be recorded, e.g. because it waits for the device.
        """
        shape = (*pixels.shape, share)
        if shape not in self._recorded:
            if any(earlier[1:-1] != shape[1:-1] for earlier in self._recorded):
                self.clear()  # frees memory before the next size needs it
            self._recorded[shape] = self._record(step, pixels, targets, share)
        recorded = self._recorded[shape]
        recorded.pixels.copy_(pixels)
        recorded.targets.copy_(targets)
        recorded.replay()
        return recorded.loss

    def clear(self) -> None:
        """Free all graphs and their memory."""
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
            for cause in (error, error.__context__):  # a lack of memory may also make the end of the recording fail
                if isinstance(cause, RuntimeError) and lacks_memory(cause):
                    raise cause from None
            reason = str(error).strip().partition("\n")[0]
            raise TrainerError(
                f"train.cuda_graphs: a step of {type(self._net).__name__} cannot be recorded ({reason}); "
                "set train.cuda_graphs to false"
            ) from error
        with torch.no_grad():
            for tensor, value in zip(touched, before, strict=True):
                tensor.copy_(value)
        return _Recorded(pixels, targets, loss, replay)


def record(work: Callable[[], Tensor], device: str) -> tuple[Tensor, Callable[[], None]]:
    """Record `work` after a warm-up that really runs it; return its result's tensor and a function that repeats it.

    The recording itself computes nothing. The graph keeps its memory as long as it exists.
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
    """The stream of every warm-up and recording. autograd's nodes remember the stream on which they were made, and a
    recording that meets a node of another stream fails."""
    cuda: Any = torch.cuda
    return cuda.Stream(device)
