"""The interface between an orchestrator and a trainer: a configuration goes in, `EpochMetrics` come out.

A *trainer* is a callable `train(config, context) -> Iterator[EpochMetrics]`. It yields once after each epoch, in order,
and it saves and resumes through `context.checkpoints`. This module names everything that both sides exchange; the
settings are in `trainers.config`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from trainers.config import (
    AlphaRamp,
    Augment,
    DataConfig,
    Ema,
    MagnitudeRamp,
    ModelConfig,
    Progressive,
    RateRamp,
    SizeRamp,
    TrainConfig,
    TrialConfig,
    cross_checks,
)

if TYPE_CHECKING:
    import torch

__all__ = [
    "AlphaRamp",
    "Augment",
    "CheckpointError",
    "CheckpointStore",
    "Context",
    "DataConfig",
    "DataError",
    "Diverged",
    "Ema",
    "EpochMetrics",
    "GpuUse",
    "MagnitudeRamp",
    "ModelConfig",
    "Notice",
    "OutOfMemory",
    "Progressive",
    "RateRamp",
    "RecordingFailed",
    "SizeRamp",
    "TrainConfig",
    "Trainer",
    "TrainerError",
    "TrialConfig",
    "WeightsError",
    "cross_checks",
]

# --------------------------------------------------------------------------------------------- errors


class TrainerError(Exception):
    """Base of the errors that a trainer raises on purpose. The text is written for users."""


class DataError(TrainerError):
    """A data file is missing, truncated or not the published one. The text names the path and the remedy."""


class WeightsError(TrainerError):
    """The model is unknown, or its pretrained weights are not available or do not fit."""


class Diverged(TrainerError):
    """The training or validation loss became NaN or infinite."""


class OutOfMemory(TrainerError):
    """The device or the host ran out of memory. The text names the stage, image size and batch size."""


class RecordingFailed(TrainerError):
    """A CUDA graph could not be recorded. The process is not sound any more; the training goes on in a new process from
    its last checkpoint, and no graph of this network is recorded there."""


class CheckpointError(TrainerError):
    """A checkpoint belongs to another configuration or seed."""


class Notice(UserWarning):
    """What a person should know of a training, which goes on all the same. The driver passes the text on."""


# ------------------------------------------------------------------------------------------- the result


@dataclass(frozen=True, kw_only=True, slots=True)  # a driver keeps hundreds of thousands of them
class EpochMetrics:
    """The metrics of one epoch. A trainer must give `epoch` and the objective of the study, by default `val_accuracy`;
    everything else is optional."""

    epoch: int
    """Number of finished epochs, from 1."""
    val_accuracy: float | None = None
    """Share of correct validation images, 0 to 1. The search maximises it, if it has no other objective."""
    val_loss: float | None = None
    """Mean cross-entropy of the validation images, nats."""
    train_loss: float | None = None
    """Mean loss of the epoch's steps, nats."""
    val_accuracy_raw: float | None = None
    """Validation accuracy of the raw weights, 0 to 1, in the epochs in which they are evaluated."""
    val_accuracy_ema: float | None = None
    """Validation accuracy of the averaged weights, 0 to 1, likewise."""
    stage: int | None = None
    """Stage of progressive learning, from 0."""
    image_size: int | None = None
    """Training image size, pixels."""
    batch_size: int | None = None
    """Images per optimiser step."""
    randaugment: float | None = None
    """RandAugment magnitude, canonical scale."""
    dropout: float | None = None
    """Dropout rate, 0 to below 1."""
    mixup: float | None = None
    """Mixup alpha; 0: no mixup."""
    learning_rate: float | None = None
    """Learning rate at the end of the epoch."""
    images_per_second: float | None = None
    """Training images divided by training seconds, without evaluation."""
    train_seconds: float | None = None
    """Wall-clock seconds of the training steps."""
    eval_seconds: float | None = None
    """Wall-clock seconds of the evaluation."""
    seconds: float | None = None
    """Wall-clock seconds of the epoch, with evaluation and checkpoint."""
    params: int | None = None
    """Number of parameters of the model, with the frozen ones."""
    macs: int | None = None
    """Multiply-accumulate operations of the forward pass for one image of the evaluation size."""
    compute: float | None = None
    """Images x px^2 since the first epoch, in units of one epoch at the largest size (`TrainConfig.compute_size`)."""
    checkpoint: str | None = None
    """SHA-256 of a checkpoint that has become complete since the last report, or None. On a CUDA device it is that of
    an earlier epoch, because the training goes on while it is written; in the last epoch it is the last one."""
    own: Mapping[str, float] | None = None
    """Other metrics, by name. Each is logged under its name and may be the study's objective. The shipped trainer
    reports `val_balanced_accuracy` and `val_macro_f1` here, each from 0 to 1."""


# -------------------------------------------------------------------------------------- what it is given


class CheckpointStore(Protocol):
    """The checkpoints of one trial. The checkpoint of an epoch is complete or does not exist."""

    def save(self, epoch: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> str:
        """Store the checkpoint of `epoch` (from 1), then remove all older ones except the last; return its SHA-256.

        `tensors` are stored as safetensors; `state` must be loadable with `weights_only=True`.
        """
        ...

    def load(self) -> tuple[int, dict[str, torch.Tensor], dict[str, Any]] | None:
        """Return the newest intact checkpoint as (epoch, tensors on the CPU, state), or None if there is none.

        Damaged checkpoints are skipped with a warning. Loading never executes code.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Context:
    """What the orchestrator gives to a trial."""

    seed: int
    """Seed of the trial, derived from the study's seed and the trial's number. Global random state is not used."""
    checkpoints: CheckpointStore
    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`."""
    device_share: float = 1.0
    """Share of the device's memory for this trial, above 0 to 1; `batch_size: auto` fills it."""
    threads: int | None = None
    """Number of torch's CPU threads; None keeps torch's setting."""
    cache_dir: str = ".cache"
    """Folder for decoded data sets and compiled graphs, shared by all trials of a machine."""


@dataclass(frozen=True, kw_only=True)
class GpuUse:
    """What a training needs of a GPU, measured on some of its steps in a process of their own."""

    gpu: str
    """Name of the GPU."""
    total_bytes: int
    """Its memory."""
    free_bytes: int
    """Its memory that was free before the measurement, without what the process itself took."""
    memory_bytes: int
    """Peak of the memory that the process took, with that of its libraries and of CUDA itself."""
    busy: float
    """Share of the time of a step in which the GPU computes or copies, 0 to 1."""


class Trainer(Protocol):
    """The callable that an orchestrator calls. The shipped trainer is `trainers.finetune.train`.

    Its module may also have a function `prove(config, context) -> None`, which the worker calls before each trial. It
    raises an OSError, ImportError, `DataError` or `WeightsError` if this machine lacks what trials need. That is no
    trial's failure: the trial runs on another machine, and this one gets no more trials.

    It may have a function `gpu_use(config, context) -> GpuUse`, too. With `resources.gpus: auto` it is called before
    the first trial, in a process of its own, with the largest configurations of the study. The answer decides how many
    trials share a GPU; without the function, none do.
    """

    def __call__(self, config: TrialConfig, context: Context) -> Iterator[EpochMetrics]:
        """Train from the newest checkpoint, or from the start; yield once per epoch.

        After a resume, the first item repeats the metrics of the checkpoint's epoch, in case the report was lost with
        the process. The receiver ignores metrics that it already has.
        """
        ...
