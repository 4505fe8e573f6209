"""One fully resolved training as a file: what `hpo export` writes, `hpo retrain` reads and a recipe is."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hpo.spec.parameters import Scalar, Section
from hpo.spec.study import IMPORT_PATH, SHIPPED_TRAINER
from hpo.spec.yaml_writer import dump
from trainers.api import DataConfig, ModelConfig, TrainConfig, TrialConfig


class Provenance(Section):
    """Where a configuration comes from. Only `trainer` changes what `retrain` does."""

    study: str | None = None
    """Name of the study."""
    trial: int | None = Field(default=None, ge=0)
    """Number of the trial in it."""
    val_accuracy: float | None = None
    """Its validation accuracy, 0 to 1."""
    epochs: int | None = Field(default=None, ge=0)
    """Epochs that the accuracy was reached after."""
    fidelity: Literal["partial", "full", "confirmed"] | None = None
    """`partial`: the trial had not been trained for all its epochs; `full`: once, in the search; `confirmed`: again,
    with several seeds."""
    confirmed_accuracy: float | None = None
    """Mean validation accuracy over the fresh seeds of the confirmation, 0 to 1; null without one."""
    confirmed_low: float | None = None
    """Lower end of that mean's 95 % t-interval."""
    confirmed_high: float | None = None
    """Upper end."""
    confirmed_seeds: int | None = Field(default=None, ge=2)
    """How many seeds it was trained with."""
    seed: int | None = Field(default=None, ge=0)
    """The trial's own seed."""
    split_hash: str | None = None
    """SHA-256 of the validation split's indices."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of Python and libraries, and the git commit."""
    trainer: str = Field(default=SHIPPED_TRAINER, pattern=IMPORT_PATH)
    """`module:function` that trained it."""


class Training(Section):
    """One training: all settings, and where they come from."""

    description: str = ""
    """What this configuration is, and its source."""
    data: DataConfig = Field(default_factory=DataConfig)
    """Which images, and how they are split."""
    model: ModelConfig = Field(default_factory=ModelConfig)
    """The network."""
    train: TrainConfig = Field(default_factory=TrainConfig)
    """Training settings."""
    extra: dict[str, Scalar] = Field(default_factory=dict)
    """Settings of a trainer of your own."""
    provenance: Provenance | None = None
    """Where the configuration comes from; null for one written by hand."""

    @classmethod
    def of(cls, config: TrialConfig, provenance: Provenance | None = None, description: str = "") -> Training:
        """The file form of a trial's configuration."""
        return cls(
            description=description,
            data=config.data,
            model=config.model,
            train=config.train,
            extra=config.extra,
            provenance=provenance,
        )

    def config(self) -> TrialConfig:
        """What a trainer is given. Raises ValueError where a rule is broken (`load_training` has checked)."""
        return TrialConfig(data=self.data, model=self.model, train=self.train, extra=self.extra)

    def to_yaml(self) -> str:
        """All settings, defaults written out; `load_training` makes an equal `Training` of it."""
        return dump(self.model_dump(mode="json"))
