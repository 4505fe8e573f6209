"""The specification of a study as frozen models. For reading one from YAML see `hpo.validation.loader`."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Field

from hpo.home import NAME
from hpo.spec.configure import assign, one_yardstick
from hpo.spec.parameters import Choice, Scalar, Section, Space, first_values
from hpo.spec.yaml_writer import dump
from trainers.api import DataConfig, ModelConfig, TrainConfig, TrialConfig

IMPORT_PATH = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"
LOCAL = "local"
"""What Ray calls a new Ray on this machine."""
SHIPPED_TRAINER = "trainers.finetune:train"
DATABASE_URL = r"^[a-z][a-z0-9_]*(\+[a-z][a-z0-9_]*)?://\S*$"
LABEL = r"^[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,59}$"
"""One line that a terminal, a table and a title can hold."""


class Search(Section):
    """Who suggests configurations."""

    policy: Literal["random", "tpe", "gp"] = "gp"
    """`gp`: a Gaussian process that knows how long each trial was trained; `tpe`: Optuna's tree-structured
    Parzen estimator; `random`: independent draws."""
    startup_trials: int = Field(default=8, ge=0)
    """Trials spread evenly over the space before the policy learns from results."""
    random_share: float = Field(default=0.2, ge=0, le=1)
    """Share of the later trials that stay random draws, so that a misled model can recover; with `warm_start` they
    are the control that it is measured by."""
    transferred: int = Field(default=4, ge=0)
    """Configurations of `warm_start` that are tried first, in all; 0: only `gp` gets to know the earlier results."""


class Baseline(Section):
    """How the baseline is named. The baseline is the first trial; all other trials are compared with it."""

    label: Annotated[str, Field(pattern=LABEL)] | None = None
    """What the baseline's configuration is, e.g. `AdamW, four stages`: one line, at most 60 characters. Texts and
    figures then show `baseline (AdamW, four stages)`; null: `baseline` alone."""


class Asha(Section):
    """Asynchronous successive halving: who is stopped early (arXiv 1810.05934)."""

    enabled: bool = True
    """False: every trial runs all of its epochs."""
    reduction_factor: float = Field(default=4, gt=1)
    """At each rung one of this many trials goes on; rungs lie this factor apart."""
    grace_period: int = Field(default=1, ge=1)
    """No trial stops before this much of the resource."""
    max: int | None = Field(default=None, ge=1)
    """The full length of a trial. null: `train.epochs`; a number must equal it, because learning rate and
    progressive stages are scheduled over all of `train.epochs`."""
    resource: Literal["auto", "epochs", "compute"] = "auto"
    """What a rung counts: `epochs`, or `compute` (images x px^2) in units of one epoch at the largest image size of the
    study. `auto`: `compute` where image sizes change and the trainer is the shipped one, `epochs` elsewhere."""
    align: Literal["none", "stages"] = "none"
    """Where a trial is judged: `none`: as soon as it reaches a rung; `stages`: at the end of its progressive stage that
    is nearest to the rung, unless that is nearer to another rung or to the end."""
    controls: float = Field(default=0, ge=0, le=1)
    """Share of trials that are never stopped: ASHA's verdict on them is only recorded, so that `hpo audit` can say what
    the pruning costs. The first enqueued trial always is one."""


class Resources(Section):
    """What one trial gets."""

    cpus: float = Field(default=1, gt=0)
    """CPU cores per trial."""
    gpus: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """GPUs per trial; a fraction shares one. `auto`: 1 where the device is CUDA, 0 elsewhere."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: CUDA where there is one."""


class Budget(Section):
    """When the study ends: whichever comes first."""

    trials: int = Field(default=50, ge=1)
    """Trials in all, enqueued and pruned ones included."""
    hours: float | None = Field(default=None, gt=0)
    """Wall-clock hours; null for no limit."""
    gpu_hours: float | None = Field(default=None, gt=0)
    """GPU-hours: the time that trials hold a GPU, start-up and lost attempts included; half a GPU for two hours is one
    GPU-hour. A confirmation is not counted. null for no limit."""
    target: float | None = Field(default=None, gt=0, le=1)
    """Validation accuracy of a complete trial that is good enough, 0 to 1; null: there is always better."""
    patience: int | None = Field(default=None, ge=1)
    """Complete trials in a row after which nothing could be gained any more but luck: what the best could still be
    bettered by (Optuna's regret bound) is below the noise of the seeds, as the confirmation or else the ends of full
    trainings show it. null: never given up."""
    when_reached: Literal["rung", "checkpoint"] = "rung"
    """What becomes of running trials when hours, gpu_hours, target or patience end the study: `rung` trains each to
    its next rung, or to its end where none is left; `checkpoint` only to its next checkpoint. Both go on from there
    where the study is resumed with a greater budget."""


class Ray(Section):
    """Where the trials run."""

    address: str | None = None
    """Address of an existing Ray cluster; null: `RAY_ADDRESS` if set, else a Ray on this machine."""

    def cluster(self) -> str | None:
        """Address of the cluster that runs the trials, by the setting or by `RAY_ADDRESS`; None: this machine."""
        address = self.address or os.environ.get("RAY_ADDRESS") or LOCAL
        return None if address == LOCAL else address


class Storage(Section):
    """Where results are kept."""

    ledger: Annotated[str, Field(pattern=DATABASE_URL)] | None = None
    """SQLAlchemy URL of the Optuna database; null: `optuna.db` in the home folder."""
    checkpoints: str | None = None
    """Folder or fsspec URI that every node can reach; null: a folder in the home folder."""


class Tracking(Section):
    """MLflow."""

    enabled: bool = True
    """False: nothing is sent to MLflow."""
    uri: str | None = None
    """Tracking server or database; null: `MLFLOW_TRACKING_URI` if set, else one in the home folder."""
    experiment: str | None = None
    """Name of the MLflow experiment; null: the study's name."""
    system_metrics: bool | Literal["auto"] = "auto"
    """CPU, memory and GPU load of the machine that the driver runs on, every 10 s. `auto`: where trials use GPUs."""


class Spec(Section):
    """A study: what is trained, what is searched, and with what means."""

    study: str = Field(pattern=NAME.pattern)
    """Name of the study: letters, digits, `_` and `-`, at most 64."""
    description: str = ""
    """What the study is for, in Markdown; shown by MLflow and the report."""
    trainer: str = Field(default=SHIPPED_TRAINER, pattern=IMPORT_PATH)
    """`module:function` that trains one configuration; see `trainers.api.Trainer`."""
    data: DataConfig = Field(default_factory=DataConfig)
    """Which images, and how they are split; the same for all trials."""
    model: ModelConfig = Field(default_factory=ModelConfig)
    """The network."""
    train: TrainConfig = Field(default_factory=TrainConfig)
    """Fixed training settings."""
    extra: dict[str, Scalar] = Field(default_factory=dict)
    """Fixed settings of a trainer of your own."""
    space: Space
    """What is searched: parameters by the dotted path of the setting, e.g. `train.lr`, in the order drawn."""
    objectives: tuple[Literal["val_accuracy", "seconds_per_epoch", "images_per_s", "params", "macs"], ...] = (
        "val_accuracy",
    )
    """What is optimised, `val_accuracy` first: by it ASHA prunes and the best trial is named. With more than one the
    sampler searches the whole Pareto front. `val_accuracy` and `images_per_s` (of training) are maximised,
    `seconds_per_epoch`, `params` and `macs` (of one image at the evaluation's size) minimised."""
    enqueue: tuple[dict[str, Choice], ...] = ()
    """Configurations tried first, in this order; the first is the baseline that others are compared with."""
    baseline: Baseline = Baseline()
    """How the baseline is named."""
    warm_start: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Earlier studies of the home folder by name, exported YAML files and shipped recipes. The best of their
    configurations that lie in this space are tried after those of `enqueue`, and `gp` learns from their results."""
    search: Search = Search()
    """Who suggests configurations."""
    asha: Asha = Asha()
    """Who is stopped early."""
    resources: Resources = Resources()
    """What one trial gets."""
    concurrency: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Trials at once; `auto`: as many as the machine or cluster has room for."""
    retries: int = Field(default=2, ge=0)
    """How many times a trial is tried again after its worker or node died."""
    seed: int = Field(default=0, ge=0)
    """All of the study's randomness derives from it."""
    budget: Budget = Budget()
    """When the study ends."""
    ray: Ray = Ray()
    """Where the trials run."""
    storage: Storage = Storage()
    """Where results are kept."""
    tracking: Tracking = Tracking()
    """MLflow."""

    @property
    def baseline_name(self) -> str:
        """What people read: `baseline` or `baseline (LABEL)`."""
        label = self.baseline.label
        return f"baseline ({label})" if label else "baseline"

    def baseline_values(self) -> dict[str, Choice]:
        """The baseline's searched settings: the first enqueued configuration, or the lowest corner of the space."""
        return dict(self.enqueue[0]) if self.enqueue else first_values(self.space)

    def base(self) -> TrialConfig:
        """The training that `hpo.spec.configure.configure` varies: the fixed settings with the baseline's values.

        So a parameter that is inactive in a trial stands where the baseline, or the field's default, has it.
        Raises ValueError where the settings break a rule (`load_spec` has checked them).
        """
        parts = {"data": self.data, "model": self.model, "train": self.train, "extra": self.extra}
        varied = assign(parts, self.baseline_values())
        return TrialConfig(**{**varied, "train": one_yardstick(varied["train"], self.space)})

    def to_yaml(self) -> str:
        """The resolved specification, defaults written out; `parse_spec` makes an equal `Spec` of it.

        Searched settings are left out of the fixed ones, where they would contradict the space. Passwords
        in URIs are kept: see `hpo.redact.redact`.
        """
        data = self.model_dump(mode="json")
        for name in self.space:
            _remove(data, name.split("."))
        return dump(data)

    def to_json(self) -> str:
        """The whole model as JSON, for `from_json`."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """The inverse of `to_json`. Raises pydantic's ValidationError; rules of `hpo.checks` are not run."""
        return cls.model_validate_json(text, strict=True)


def _remove(data: dict[str, Any], keys: list[str]) -> None:
    """Take one leaf out of nested mappings; nothing happens where there is none."""
    *parents, leaf = keys
    for key in parents:
        data = data.get(key, {})
    data.pop(leaf, None)
