"""The boundary between an orchestrator and a trainer: configuration in, `EpochMetrics` out.

A *trainer* is a callable `train(config, context) -> Iterator[EpochMetrics]`: it yields once per finished
epoch, in order, and saves and resumes through `context.checkpoints`. All that the two sides exchange is named
here; the configuration stands in `trainers.config`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from trainers.config import (
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
    "Augment",
    "CheckpointError",
    "CheckpointStore",
    "Context",
    "DataConfig",
    "DataError",
    "Diverged",
    "Ema",
    "EpochMetrics",
    "MagnitudeRamp",
    "ModelConfig",
    "OutOfMemory",
    "Progressive",
    "RateRamp",
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
    """Base of every error a trainer raises on purpose; its text is fit to show a person."""


class DataError(TrainerError):
    """The data set is missing, truncated or not the published one. Names the path and the remedy."""


class WeightsError(TrainerError):
    """The model is unknown, or its pretrained weights cannot be had or do not fit."""


class Diverged(TrainerError):
    """The loss became NaN or infinite."""


class OutOfMemory(TrainerError):
    """The device ran out of memory. Names the stage, image size and batch size."""


class CheckpointError(TrainerError):
    """A checkpoint is damaged, or is not one of ours."""


# ------------------------------------------------------------------------------------------- the result


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """What a trainer yields after each epoch. Only `epoch` and `val_accuracy` are required."""

    epoch: int
    """Epochs finished, from 1."""
    val_accuracy: float
    """Share of correct validation images, 0 to 1; the objective."""
    val_loss: float | None = None
    train_loss: float | None = None
    val_accuracy_raw: float | None = None
    val_accuracy_ema: float | None = None
    stage: int | None = None
    """Progressive stage, from 0."""
    image_size: int | None = None
    """Training image size, pixels."""
    batch_size: int | None = None
    randaugment: float | None = None
    """Canonical magnitude."""
    dropout: float | None = None
    mixup: float | None = None
    learning_rate: float | None = None
    """At the end of the epoch."""
    images_per_second: float | None = None
    """Training images over training seconds, evaluation not counted."""
    train_seconds: float | None = None
    eval_seconds: float | None = None
    seconds: float | None = None
    """Wall-clock of this epoch, evaluation and checkpoint included."""
    params: int | None = None
    """Parameters of the model, frozen ones included."""
    macs: int | None = None
    """Multiply-accumulate operations of one image's forward pass at the evaluation's size."""
    compute: float | None = None
    """Cumulative images x px^2, in units of one epoch at the largest size (`TrainConfig.compute_size`)."""
    checkpoint: str | None = None
    """SHA-256 of the checkpoint saved after this epoch, or None."""


# -------------------------------------------------------------------------------------- what it is given


class CheckpointStore(Protocol):
    """Where one trial keeps its checkpoints. An epoch's checkpoint is complete or does not exist."""

    def save(self, epoch: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> str:
        """Store tensors (safetensors) and state (loadable with `weights_only=True`); return their SHA-256.

        Older checkpoints but the last good one are removed afterwards.
        """
        ...

    def load(self) -> tuple[int, dict[str, torch.Tensor], dict[str, Any]] | None:
        """The newest intact checkpoint as (epoch, tensors on the CPU, state), or None; damaged ones are
        skipped with a warning and nothing in them is executed."""
        ...


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a trial gets from whoever runs it."""

    seed: int
    """Derived from (study seed, trial number); no global random state is used."""
    checkpoints: CheckpointStore
    device: str = "cpu"
    """`cpu`, `cuda` or `cuda:N`."""
    device_share: float = 1.0
    """Share of the device's memory that is this trial's, above 0 to 1; `batch_size: auto` fills it."""
    threads: int | None = None
    """Intra-op threads on the CPU; None leaves torch's setting."""
    cache_dir: str = ".cache"
    """Folder for decoded data sets and compiled graphs, shared by the trials of one machine."""


class Trainer(Protocol):
    """What an orchestrator calls. `trainers.finetune.train` is the one shipped."""

    def __call__(self, config: TrialConfig, context: Context) -> Iterator[EpochMetrics]:
        """Train from the newest checkpoint on, or from the start; yield once per epoch.

        After a resume the first item repeats the checkpointed epoch's metrics, so that a report lost with
        the process is made good; its receiver ignores what it has.
        """
        ...
