"""The training loop: epochs of forward pass, backward pass and optimiser step, on data that is on the device.

Nothing inside an epoch waits for the device. Every epoch has its own random streams, so an epoch that is repeated
after a resume computes the same.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainers import rng, schedule
from trainers.api import Context, Diverged, RecordingFailed, TrialConfig
from trainers.data import Images
from trainers.loop import compiling
from trainers.loop.auto_batch import LR_BATCH, DeviceMemory
from trainers.loop.batches import batches_of, micro_batches
from trainers.loop.cores import Cores
from trainers.loop.cuda_graphs import CudaRecorder, GraphedStep, Recorder, Refusals
from trainers.loop.evaluate import Evaluator, Score
from trainers.loop.step import TrainingStep
from trainers.network import batchnorm
from trainers.network import model as models
from trainers.network.ema import WeightAverage
from trainers.numerics import Numerics, memory_errors, search_kernels
from trainers.rng import derive
from trainers.schedule import Stage


@dataclass(frozen=True)
class TrainedEpoch:
    """The result of one training epoch."""

    epoch: int
    """From 1."""
    stage: Stage
    batch_size: int
    """Images per optimiser step."""
    parts: int
    """Micro-batches per optimiser step."""
    train_loss: float
    """Mean loss of the steps, nats."""
    learning_rate: float
    """Learning rate at the end of the epoch, scaled to the batch."""
    images: int
    """Number of images trained on."""
    seconds: float
    """Wall-clock seconds."""


def class_weights(images: Images) -> Tensor:
    """The weight of each class in the loss, float32 (classes,): N / (classes x images of the class); 0 without images.

    The mean over the images is 1, so learning rates keep their meaning. The formula is scikit-learn's `balanced`.
    """
    counts = torch.bincount(images.labels[images.indices], minlength=len(images.classes))
    present = counts > 0
    return torch.where(present, len(images) / (present.sum() * counts.clamp(min=1)), 0.0)


class Engine:
    """One training: model, optimiser, averaged weights and schedules. It advances by whole epochs."""

    def __init__(self, config: TrialConfig, context: Context, numerics: Numerics, images: Images) -> None:
        train = config.train
        self.config, self.numerics = config, numerics
        self.seed, self.device = context.seed, context.device
        self.cores = Cores(context, compiled=train.compile)
        self.plan = schedule.stages(train.progressive, train.epochs)
        self.eval_size = train.eval_size or self.plan[-1].size
        with memory_errors(f"building {config.model.name}"):
            self.model = models.build(
                config.model,
                len(images.classes),
                seed=context.seed,
                device=context.device,
                channels_last=train.channels_last,
                sizes={self.eval_size, *(stage.size for stage in self.plan)},
            )
        models.freeze(self.model, train.freeze_blocks)
        self.batches = batches_of(images, self.model, train, context)
        self.forward: Callable[[Tensor], Tensor] = self.model.net
        if train.compile:
            self.forward = compiling.compiled(self.model, context.cache_dir)
        self.step = TrainingStep(
            self.model,
            train,
            numerics,
            forward=self.forward,
            class_weights=class_weights(images) if config.data.class_weights == "balanced" else None,
        )
        self.refusals = Refusals.of(config, numerics, context.cache_dir)
        recorder = self._recorder()
        self.graphed = GraphedStep(self.step, self.model.net, recorder) if recorder else None
        self.evaluator = Evaluator(
            self.model,
            len(images.classes),
            size=self.eval_size,
            batch_size=train.eval_batch_size,
            numerics=numerics,
            forward=self.forward,
            recorder=recorder,
        )
        scored = train.eval_batch_size * self.eval_size**2
        self.memory = DeviceMemory(self.model, self.step, self.batches, context, scored)
        if train.batch_size == "auto":
            self.batch_size = min(self.memory.batch(self.plan[-1], train.accumulate), len(self.batches))
        else:
            self.batch_size = train.batch_size

    @property
    def average(self) -> WeightAverage | None:
        """The averaged weights, or None without them."""
        return self.step.average

    def batch_of(self, stage: Stage) -> int:
        """Return the images per optimiser step of a stage, at most the number of training images."""
        batch = self.batch_size
        if self.config.train.progressive.grow_batch:
            batch = schedule.batch_size(batch, stage.size, self.plan[-1].size)
        return min(batch, len(self.batches))

    def run_epoch(self, epoch: int) -> TrainedEpoch:
        """Train one epoch (from 1). Each image is used at most once; an incomplete last batch is left out.

        Raises:
            Diverged: the mean loss is NaN or infinite.
            TrainerError: the batch is too small to normalise.
            OutOfMemory: the text names the stage, the size and the batch.
        """
        stage = schedule.stage_of(self.plan, epoch)
        batch = self.batch_of(stage)
        started = time.perf_counter()
        doing = f"training stage {stage.index} at {stage.size} px with batches of {batch}"
        if self.graphed:
            self.graphed.keep(stage.size)  # before the memory is measured
        self.batches.accumulate = self.memory.parts(stage, batch, self.config.train.accumulate)
        if self.batches.accumulate > 1:
            doing += f" in {self.batches.accumulate} parts"
        single = batchnorm.single_value_errors(stage.size)
        with memory_errors(doing), single, self._compiling("train", stage.size, batch), self._recording():
            if self._size_changed(epoch, stage):
                self._reestimate(epoch, stage, batch)
            steps = self._steps(epoch, stage, batch)
            loss = self.step.losses.item() / steps
        if not math.isfinite(loss):
            raise Diverged(f"the training loss became {loss} in epoch {epoch}")
        return TrainedEpoch(
            epoch=epoch,
            stage=stage,
            batch_size=batch,
            parts=len(micro_batches(batch, self.batches.accumulate)),
            train_loss=loss,
            learning_rate=self._lr(epoch, batch),
            images=steps * batch,
            seconds=time.perf_counter() - started,
        )

    def score(self, images: Images) -> Score:
        """Evaluate the present weights on `images` at the evaluation size."""
        train = self.config.train
        batch = min(train.eval_batch_size, len(images))
        with (
            memory_errors(f"evaluating at {self.eval_size} px with batches of {batch}"),
            self._compiling("evaluate", self.eval_size, batch, len(images)),
            self._recording(),
        ):
            return self.evaluator(images)

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights, named `model.NAME`, and the averaged weights, named `ema.NAME`."""
        tensors = {f"model.{name}": value for name, value in self.model.net.state_dict().items()}
        if self.average:
            tensors.update({f"ema.{name}": value for name, value in self.average.state().items()})
        return tensors

    def state(self) -> dict[str, Any]:
        """Return everything else that `load` needs. Random streams need no state: they follow from seed and epoch."""
        return {**self.step.state(), "batch_size": self.batch_size, "fitting": self.memory.fitting}

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Continue from `tensors()` and `state()` of another engine with the same configuration and seed."""
        weights = {name.partition(".")[2]: value for name, value in tensors.items() if name.startswith("model.")}
        self.model.net.load_state_dict(weights)
        averages = {name.partition(".")[2]: value for name, value in tensors.items() if name.startswith("ema.")}
        self.step.load(averages, state)
        self.batch_size = state["batch_size"]
        self.memory.fitting = dict(state.get("fitting", {}))

    def close(self) -> None:
        """Free the memory that the next trial on this worker does not need. The engine cannot be used afterwards."""
        if self.graphed:
            self.graphed.clear()
        self.graphed = None
        self.evaluator.clear()
        self.step.clear()

    def _steps(self, epoch: int, stage: Stage, batch: int) -> int:
        """Run the steps of an epoch, which add up their losses on the device; return their number."""
        steps = len(self.batches) // batch
        parts = self.batches.epoch(epoch, stage, batch)
        count = len(micro_batches(batch, self.batches.accumulate))
        self.step.losses.zero_()
        self.model.train()
        self.model.dropout.set(stage.dropout)
        passes = count * steps * (stage.last_epoch - stage.first_epoch + 1)
        run = self.graphed or self.step
        self.cores.begin()
        with rng.isolated(derive(self.seed, "dropout", epoch), self.device), search_kernels(passes):
            for step in range(steps):
                self.step.prepare(self._lr(epoch - 1 + step / steps, batch))
                run(itertools.islice(parts, count), batch)
                self.cores.look()
        return steps

    def _lr(self, progress: float, batch: int) -> float:
        train = self.config.train
        meant = LR_BATCH if train.batch_size == "auto" else min(train.batch_size, len(self.batches))
        factor = schedule.batch_lr_factor(batch / meant, train.optimizer)
        return train.lr * factor * schedule.lr_factor(train, progress)

    def _compiling(self, *shape: Any) -> AbstractContextManager[None]:
        if not self.config.train.compile:
            return nullcontext()
        precision = self.numerics.autocast_dtype, self.numerics.tf32, self.numerics.memory_format
        parts = self.batches.accumulate
        return compiling.one_graph(self.config.model, self.config.train.freeze_blocks, parts, *precision, *shape)

    def _recorder(self) -> Recorder | None:
        """What records the work of this training; None on the CPU, where starting work costs nothing."""
        train = self.config.train
        if not self.device.startswith("cuda") or train.compile or not train.cuda_graphs or self.refusals:
            return None
        return CudaRecorder(self.device, self.config.model.name)

    @contextmanager
    def _recording(self) -> Iterator[None]:
        """Let the next process know what could not be recorded."""
        try:
            yield
        except RecordingFailed as error:
            self.refusals.add(str(error))
            raise

    def _size_changed(self, epoch: int, stage: Stage) -> bool:
        asked = self.config.train.progressive.reset_batchnorm and stage.index > 0
        return asked and epoch == stage.first_epoch and stage.size != self.plan[stage.index - 1].size

    def _reestimate(self, epoch: int, stage: Stage, batch: int) -> None:
        def forward(pixels: Tensor) -> None:
            with self.numerics.autocast():
                self.model.net(pixels.contiguous(memory_format=self.numerics.memory_format))

        self.model.train()
        with rng.isolated(derive(self.seed, "batchnorm dropout", epoch), self.device):
            changed = batchnorm.reestimate(self.model.net, forward, self.batches.for_statistics(epoch, stage, batch))
        if self.average:
            self.average.adopt(set(changed))
