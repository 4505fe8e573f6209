"""The training loop: epochs of forward pass, backward pass and optimiser step, on data that is on the device.

Nothing inside an epoch waits for the device. Every epoch has its own random streams, so an epoch that is repeated
after a resume computes the same.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers import rng, schedule
from trainers.api import Context, Diverged, TrialConfig
from trainers.data import Images
from trainers.loop import auto_batch, compiling, optimizers
from trainers.loop.batches import batches_of, micro_batches
from trainers.loop.cuda_graphs import GraphedStep
from trainers.loop.evaluate import Score, evaluate
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
        self.seed, self.device, self.device_share = context.seed, context.device, context.device_share
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
        self.optimizer = optimizers.create(train, self.model.net, context.device)
        self.scaler = torch.amp.GradScaler(torch.device(context.device).type, enabled=numerics.scaled)
        self.average = WeightAverage(train.ema, self.model.net) if train.ema.decay else None
        self.batches = batches_of(images, self.model, train, context)
        self.class_weights = class_weights(images) if config.data.class_weights == "balanced" else None
        self.forward: Callable[[Tensor], Tensor] = self.model.net
        if train.compile:
            self.forward = compiling.compiled(self.model, context.cache_dir)
        self.batch_size = train.batch_size if train.batch_size != "auto" else self._fitting_batch()
        self.graphed = self._graphed(context.device) if train.cuda_graphs else None

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
        if self.config.train.accumulate > 1:
            doing += f" in {self.config.train.accumulate} parts"
        single = batchnorm.single_value_errors(stage.size)
        with memory_errors(doing), single, self._compiling("train", stage.size, batch):
            if self._size_changed(epoch, stage):
                self._reestimate(epoch, stage, batch)
            total, steps = self._steps(epoch, stage, batch)
            loss = total.item() / steps
        if not math.isfinite(loss):
            raise Diverged(f"the training loss became {loss} in epoch {epoch}")
        return TrainedEpoch(
            epoch=epoch,
            stage=stage,
            batch_size=batch,
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
        ):
            return evaluate(
                self.model,
                images,
                size=self.eval_size,
                batch_size=train.eval_batch_size,
                numerics=self.numerics,
                forward=self.forward,
            )

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights, named `model.NAME`, and the averaged weights, named `ema.NAME`."""
        tensors = {f"model.{name}": value for name, value in self.model.net.state_dict().items()}
        if self.average:
            tensors.update({f"ema.{name}": value for name, value in self.average.state().items()})
        return tensors

    def state(self) -> dict[str, Any]:
        """Return everything else that `load` needs. Random streams need no state: they follow from seed and epoch."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema_steps": self.average.steps if self.average else 0,
            "batch_size": self.batch_size,
        }

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Continue from `tensors()` and `state()` of another engine with the same configuration and seed."""
        weights = {name.partition(".")[2]: value for name, value in tensors.items() if name.startswith("model.")}
        self.model.net.load_state_dict(weights)
        if self.average:
            averages = {name.partition(".")[2]: value for name, value in tensors.items() if name.startswith("ema.")}
            self.average.load(averages, state["ema_steps"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.batch_size = state["batch_size"]

    def close(self) -> None:
        """Free the memory that the next trial on this worker does not need. The engine cannot be used afterwards."""
        if self.graphed:
            self.graphed.clear()
        self.graphed = self.average = None
        self.optimizer.state.clear()
        self.model.net.zero_grad(set_to_none=True)

    def _steps(self, epoch: int, stage: Stage, batch: int) -> tuple[Tensor, int]:
        """Run the steps of an epoch; return the sum of their mean losses, on the device, and their number."""
        steps = len(self.batches) // batch
        parts = self.batches.epoch(epoch, stage, batch)
        count = len(micro_batches(batch, self.config.train.accumulate))
        total = torch.zeros((), device=self.device)
        self.model.train()
        self.model.dropout.set(stage.dropout)
        whole = steps * (stage.last_epoch - stage.first_epoch + 1)
        with rng.isolated(derive(self.seed, "dropout", epoch), self.device), search_kernels(whole):
            for step in range(steps):
                optimizers.set_lr(self.optimizer, self._lr(epoch - 1 + step / steps, batch))
                total += self._step(itertools.islice(parts, count), batch)
        return total, steps

    def _add_gradient(self, pixels: Tensor, targets: Tensor, share: float) -> Tensor:
        # Not stored in an attribute: a bound method would make a reference cycle, which delays freeing the memory.
        if self.graphed:
            return self.graphed(self._forward_backward, pixels, targets, share)
        return self._forward_backward(pixels, targets, share)

    def _forward_backward(self, pixels: Tensor, targets: Tensor, share: float) -> Tensor:
        """Add the gradient of `share` times the mean loss; return that loss."""
        with self.numerics.autocast():
            logits = self.forward(pixels.contiguous(memory_format=self.numerics.memory_format))
        loss = F.cross_entropy(logits.float(), targets, weight=self.class_weights) * share
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _graphed(self, device: str) -> GraphedStep | None:
        """None on the CPU, where starting work costs nothing."""
        return GraphedStep(self.model.net, device) if device.startswith("cuda") else None

    def _step(self, parts: Iterable[tuple[Tensor, Tensor]], batch: int) -> Tensor:
        if self.graphed:
            self.graphed.zero_grad()
        else:
            self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for pixels, targets in parts:
            total += self._add_gradient(pixels, targets, len(pixels) / batch)
        self._update()
        return total

    def _update(self) -> None:
        zeroes = self.numerics.scaled and not optimizers.skips_overflow(self.optimizer)
        if self.config.train.clip_grad or zeroes:
            self.scaler.unscale_(self.optimizer)
        if self.config.train.clip_grad:
            torch.nn.utils.clip_grad_norm_(self.model.net.parameters(), self.config.train.clip_grad)
        if zeroes:  # the scaler itself would wait for the device in every step
            optimizers.zero_overflow(self.optimizer)
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update()

    def _lr(self, progress: float, batch: int) -> float:
        train = self.config.train
        meant = auto_batch.LR_BATCH if train.batch_size == "auto" else min(train.batch_size, len(self.batches))
        factor = schedule.batch_lr_factor(batch / meant, train.optimizer)
        return train.lr * factor * schedule.lr_factor(train, progress)

    def _compiling(self, *shape: Any) -> AbstractContextManager[None]:
        if not self.config.train.compile:
            return nullcontext()
        train = self.config.train
        return compiling.one_graph(self.config.model, train.freeze_blocks, train.accumulate, *shape)

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

    def _fitting_batch(self) -> int:
        """The batch of `batch_size: auto` for the last stage. The model is restored afterwards."""
        net = self.model.net
        before = {name: value.clone() for name, value in net.state_dict().items()}
        parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
        stage = self.plan[-1]

        def step(count: int) -> None:
            self.model.train()
            pixels, targets = self.batches.sample(count, stage)
            with rng.isolated(0, self.device):
                self._forward_backward(pixels, targets, 1.0)

        with memory_errors(f"searching the largest batch of stage {stage.index} at {stage.size} px"):
            batch = auto_batch.largest(
                step,
                device=self.device,
                share=self.device_share,
                reserve=2 * sum(parameter.nbytes for parameter in parameters),
                accumulate=self.config.train.accumulate,
            )
        net.load_state_dict(before)
        net.zero_grad(set_to_none=True)
        return min(batch, len(self.batches))
