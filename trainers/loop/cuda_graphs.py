"""Work on the GPU that is recorded once per shape and then started by one call instead of kernel by kernel.

A training step starts thousands of kernels, and a fast GPU waits for the host meanwhile. A recording is one call and
computes the same, random numbers included (https://pytorch.org/docs/stable/notes/cuda.html, "CUDA Graphs"). It reads
and writes the same memory every time: so inputs are copied to one place, and numbers that change are tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias
from weakref import WeakSet

import torch
from torch import Tensor, nn

from trainers.api import RecordingFailed, TrialConfig
from trainers.files import replace_atomically
from trainers.loop import optimizers
from trainers.loop.step import TrainingStep
from trainers.numerics import Numerics, lacks_memory

Work: TypeAlias = Callable[[], None]
Recorder: TypeAlias = Callable[[Work, int], Work]
"""`recorder(work, size)` runs `work`, which computes on images of `size` pixels, to warm up, records it and returns
what repeats it. It raises `RecordingFailed` if that is not possible."""

WARM_UP = 3
"""Times that work really runs before its recording. Libraries then choose kernels and allocate memory."""


class GraphedStep:
    """A `TrainingStep` that is recorded when a shape comes for the first time, and repeated from then on.

    The whole step is recorded, or without its update if the optimiser needs the host. Only the recording of one shape
    is kept, because a training does not return to an earlier size.
    """

    def __init__(self, step: TrainingStep, net: nn.Module, recorder: Recorder) -> None:
        self._step, self._net, self._recorder = step, net, recorder
        self._whole = optimizers.is_resident(step.optimizer)
        self._recorded: _Recorded | None = None

    def __call__(self, parts: Iterable[tuple[Tensor, Tensor]], batch: int) -> None:
        """Make one step as `TrainingStep` does.

        Raises:
            RecordingFailed: the step cannot be recorded, e.g. because it waits for the device.
        """
        inputs = [tensor for part in parts for tensor in part]
        shape = (batch, *(tensor.shape for tensor in inputs))
        if self._recorded is None or self._recorded.shape != shape:
            self.clear()  # frees memory before the next size needs it
            self._recorded = self._record(shape, inputs, batch)
        self._recorded(inputs)
        if not self._whole:
            self._step.update()

    def keep(self, size: int) -> None:
        """Free the recording unless it is of images of `size` pixels."""
        if self._recorded and self._recorded.places[0].shape[-1] != size:
            self.clear()

    def clear(self) -> None:
        """Free the recording and its memory, which includes the gradients."""
        self._recorded = None
        for parameter in self._step.parameters:
            parameter.grad = None

    def _record(self, shape: tuple[Any, ...], inputs: Sequence[Tensor], batch: int) -> _Recorded:
        places = [tensor.clone() for tensor in inputs]
        step = self._step if self._whole else self._step.gradients
        work = partial(step, list(zip(places[::2], places[1::2], strict=True)), batch)
        with self._unchanged():
            repeat = self._recorder(work, inputs[0].shape[-1])
        return _Recorded(shape, places, repeat)

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Undo what the block, which runs steps that do not count, has changed: tensors, scaler and random numbers."""
        tensors, scaler, device = self._tensors(), self._step.scaler, self._step.losses.device
        before, scale = [tensor.detach().clone() for tensor in tensors], scaler.state_dict()
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
        scaler.load_state_dict(scale)

    def _tensors(self) -> list[Tensor]:
        """All tensors that a step changes, except for the gradients, which it computes anew."""
        states = [value for values in self._step.optimizer.state.values() for value in values.values()]
        averages = self._step.average.state().values() if self._step.average else ()
        tensors = [*self._net.parameters(), *self._net.buffers(), *states, *averages, self._step.losses]
        return [tensor for tensor in tensors if isinstance(tensor, Tensor)]


@dataclass(frozen=True)
class _Recorded:
    shape: tuple[Any, ...]
    places: list[Tensor]
    """The tensors that the recording reads."""
    repeat: Work

    def __call__(self, inputs: Sequence[Tensor]) -> None:
        """Repeat the recorded work with the values of `inputs`."""
        for place, value in zip(self.places, inputs, strict=True):
            place.copy_(value)
        self.repeat()


class GraphedWork:
    """Work on a batch that adds to some results, recorded once per shape of the batch."""

    def __init__(self, work: Callable[..., None], results: Sequence[Tensor], recorder: Recorder) -> None:
        self._work, self._results, self._recorder = work, results, recorder
        self._recorded: dict[tuple[Any, ...], _Recorded] = {}

    def __call__(self, inputs: Sequence[Tensor], size: int) -> None:
        """Do the work on `inputs`, whose images it computes at `size` pixels."""
        shape = (size, *(tensor.shape for tensor in inputs))
        if shape not in self._recorded:
            places, before = ([tensor.clone() for tensor in tensors] for tensors in (inputs, self._results))
            repeat = self._recorder(partial(self._work, *places), size)
            self._recorded[shape] = _Recorded(shape, places, repeat)
            for result, value in zip(self._results, before, strict=True):
                result.copy_(value)
        self._recorded[shape](inputs)


class CudaRecorder:
    """Records work as CUDA graphs. The graphs of one image size share their memory: no two of them run at once."""

    def __init__(self, device: str, name: str) -> None:
        self._device, self._name = device, name
        self._graphs: dict[int, WeakSet[Any]] = defaultdict(WeakSet)
        """The graphs that are in use, by image size."""

    def __call__(self, work: Work, size: int) -> Work:
        """Record `work` after a warm-up that really runs it; the recording itself computes nothing.

        Raises:
            torch.OutOfMemoryError: the device has too little memory; another time it may suffice.
            RecordingFailed: for any other reason.
        """
        cuda: Any = torch.cuda
        with cuda.device(self._device):
            side, main = _stream(self._device), cuda.current_stream()
            side.wait_stream(main)
            with cuda.stream(side):
                for _ in range(WARM_UP):
                    work()
            main.wait_stream(side)
            graph = cuda.CUDAGraph()
            try:
                # thread_local: the thread that writes a checkpoint may wait for the device meanwhile.
                with cuda.graph(graph, pool=self._pool(size), stream=side, capture_error_mode="thread_local"):
                    work()
            except RuntimeError as error:
                cause = _cause(error)
                if lacks_memory(cause):
                    raise cause from None
                raise failed(self._name, str(cause).strip().partition("\n")[0]) from error
        self._graphs[size].add(graph)
        replay: Work = graph.replay
        return replay

    def _pool(self, size: int) -> Any:
        """The memory of the graphs of `size` that are in use; None: new memory, because torch refuses to take a pool
        again whose last graph is gone."""
        return next((graph.pool() for graph in self._graphs[size]), None)


def _cause(error: RuntimeError) -> RuntimeError:
    """The error of the recorded work. The end of its recording then fails too, and only says that something did."""
    return error.__context__ if isinstance(error.__context__, RuntimeError) else error


def failed(name: str, reason: str) -> RecordingFailed:
    """Return the error that says that the work of the network `name` cannot be recorded, why, and what follows."""
    return RecordingFailed(
        f"the work of {name} cannot be recorded as a CUDA graph ({reason}); a new process goes on from the last "
        "checkpoint without graphs (if none starts by itself, run the command again; train.cuda_graphs: false avoids "
        "the attempt)"
    )


@cache
def _stream(device: str) -> Any:
    """The stream of every warm-up and recording. autograd's nodes remember the stream on which they were made, and a
    recording that meets a node of another stream fails."""
    cuda: Any = torch.cuda
    return cuda.Stream(device)


@dataclass(frozen=True)
class Refusals:
    """What could not be recorded on this machine: a file each in the cache that all its trials share.

    A process whose recording failed is not sound, so the next one has to know it before it records.
    """

    folder: Path
    key: str

    @classmethod
    def of(cls, config: TrialConfig, numerics: Numerics, cache_dir: str) -> Refusals:
        """Those of trainings with the network, the optimiser and the precision of `config` on a device of this kind."""
        device = torch.cuda.get_device_name(numerics.device) if numerics.device.startswith("cuda") else "cpu"
        what = [config.model.name, config.train.optimizer, str(numerics.autocast_dtype), device, torch.__version__]
        key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
        return cls(Path(cache_dir).absolute() / "cuda_graphs", key)

    def __bool__(self) -> bool:
        return self._file.exists()

    def add(self, reason: str) -> None:
        """Keep that it failed, and why."""
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_atomically(self._file, lambda path: path.write_text(f"{reason}\n", encoding="utf-8"))

    @property
    def _file(self) -> Path:
        return self.folder / f"{self.key}.txt"
