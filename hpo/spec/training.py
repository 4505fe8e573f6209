"""One training with all of its settings as a file: `hpo export` writes it, `hpo retrain` reads it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hpo.spec.parameters import Scalar, Section
from hpo.spec.study import IMPORT_PATH, SHIPPED_TRAINER
from hpo.spec.yaml_writer import dump
from trainers.api import DataConfig, ModelConfig, TrainConfig, TrialConfig


class Provenance(Section):
    """Where a configuration comes from. `hpo retrain` uses only `trainer`; the rest informs people."""

    study: str | None = None
    """Name of the study."""
    trial: int | None = Field(default=None, ge=0)
    """Number of the trial in that study."""
    val_accuracy: float | None = None
    """Validation accuracy of the trial, 0 to 1; null if the study had another objective."""
    objective: str | None = None
    """The objective of the study, if it was not the validation accuracy."""
    value: float | None = None
    """Value of that objective: the mean over the new seeds of a confirmation, else that of the trial."""
    epochs: int | None = Field(default=None, ge=0)
    """Number of epochs after which it had that accuracy."""
    fidelity: Literal["partial", "full", "confirmed"] | None = None
    """How well the accuracy is known. `partial`: from an incomplete training; `full`: from one complete training in the
    search; `confirmed`: from several complete trainings with new seeds."""
    confirmed_accuracy: float | None = None
    """Mean validation accuracy over the new seeds of the confirmation, 0 to 1; null without a confirmation."""
    confirmed_low: float | None = None
    """Lower end of the 95 % interval of that mean; null below three seeds."""
    confirmed_high: float | None = None
    """Upper end of the 95 % interval of that mean; null below three seeds."""
    confirmed_probability: float | None = Field(default=None, ge=0, le=1)
    """Probability that this configuration is the best of those that were confirmed, 0 to 1; null without a
    confirmation."""
    confirmed_seeds: int | None = Field(default=None, ge=2)
    """Number of seeds of the confirmation."""
    seed: int | None = Field(default=None, ge=0)
    """Seed of the trial."""
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
    """The images and their split."""
    model: ModelConfig = Field(default_factory=ModelConfig)
    """The network."""
    train: TrainConfig = Field(default_factory=TrainConfig)
    """Training settings."""
    extra: dict[str, Scalar] = Field(default_factory=dict)
    """Settings of your own trainer."""
    provenance: Provenance | None = None
    """Where the configuration comes from; null if a person wrote it."""

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
        """The configuration for the trainer. Raises ValueError if a rule is broken (`load_training` has checked)."""
        return TrialConfig(data=self.data, model=self.model, train=self.train, extra=self.extra)

    def to_yaml(self) -> str:
        """All settings with defaults written out; `load_training` makes an equal `Training` of it."""
        return dump(self.model_dump(mode="json"))
