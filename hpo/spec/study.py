"""The specification of a study as frozen models. `hpo.validation.loader` reads one from YAML."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from hpo.home import NAME
from hpo.spec.configure import assign, configure, with_shared_sizes
from hpo.spec.corners import corners, subspace
from hpo.spec.enqueued import parts
from hpo.spec.notify import Notify
from hpo.spec.objectives import Choice as ObjectiveChoice
from hpo.spec.objectives import Objective, objective
from hpo.spec.parameters import CategoricalParameter, Choice, Scalar, Section, Space, first_values
from hpo.spec.yaml_writer import dump, remove
from trainers.api import DataConfig, ModelConfig, TrainConfig, TrialConfig

IMPORT_PATH = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"
LOCAL = "local"
"""What Ray calls a new Ray on this machine."""
SHIPPED_TRAINER = "trainers.finetune:train"
DATABASE_URL = r"^[a-z][a-z0-9_]*(\+[a-z][a-z0-9_]*)?://\S*$"
LABEL = r"^[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,59}$"
"""One line that a terminal, a table and a title can hold."""


class Search(Section):
    """How new configurations are suggested."""

    policy: Literal["random", "tpe", "gp"] = "gp"
    """`gp`: a Gaussian process that also learns from trials stopped early, by the epochs they were trained; `tpe`:
    Optuna's tree-structured Parzen estimator; `random`: independent random draws."""
    startup_trials: int = Field(default=8, ge=0)
    """Number of first trials, spread evenly over the space; after them the policy learns from results."""
    random_share: float = Field(default=0.2, ge=0, le=1)
    """Share of the later trials that are random draws, so that a wrong model can recover. With `warm_start` they
    also show what the earlier results gain."""
    transferred: int = Field(default=4, ge=0)
    """Number of configurations of `warm_start` that are tried first, over all sources; 0: only `gp` uses its
    results."""
    prior: Literal["baseline"] | None = None
    """`baseline`: each parameter that the baseline has, and that has no `prior` of its own, gets one of medium
    confidence around the baseline's value. It needs `policy: gp` and an enqueued configuration. null: only the
    parameters' own."""
    landing: bool = False
    """true: pruned trials keep their checkpoints while the study runs, and a free worker takes one up again and trains
    it to its end where its predicted end promises more per second than a new trial, or where a new one could not be
    complete in time. It needs `policy: gp`, ASHA and one objective."""


class Baseline(Section):
    """How the baseline is named. The baseline is the first trial; all other trials are compared with it."""

    label: Annotated[str, Field(pattern=LABEL)] | None = None
    """What it is, e.g. `AdamW, four stages`: one line, at most 60 characters. Texts and figures then show
    `baseline (AdamW, four stages)`; null: the `label` of the first enqueued configuration."""


class Asha(Section):
    """Early stopping of unpromising trials by asynchronous successive halving (ASHA, arXiv 1810.05934)."""

    enabled: bool = True
    """false: every trial runs all of its epochs."""
    reduction_factor: float = Field(default=4, gt=1)
    """At each rung, one of this many trials continues. Each rung is at this multiple of the rung before it."""
    grace_period: int = Field(default=1, ge=1)
    """The first rung: no trial is stopped before this much of `resource`."""
    max: int | None = Field(default=None, ge=1)
    """The full length of a trial. null: `train.epochs`. A number must equal `train.epochs`, because the learning
    rate and the progressive stages are scheduled over all epochs."""
    resource: Literal["auto", "epochs", "compute"] = "auto"
    """What rungs count. `epochs`: epochs; `compute`: images x px^2, in units of one epoch at the largest image size
    of the study; `auto`: `compute` if image sizes change and the trainer is the shipped one, else `epochs`."""
    align: Literal["none", "stages"] = "none"
    """When a trial is judged. `none`: as soon as it reaches a rung; `stages`: at the end of the progressive stage
    nearest to the rung, unless that end is nearer to another rung or to the end of the training."""
    controls: float = Field(default=0, ge=0, le=1)
    """Share of trials that are never stopped. ASHA's decisions on them are only recorded, so that `hpo audit` can
    say what the pruning costs. The baseline is always one of them."""


class Resources(Section):
    """The resources of one trial."""

    cpus: float = Field(default=1, gt=0)
    """CPU cores per trial. A trial on the CPU trains with as many threads, and with fewer while other programs take its
    cores."""
    gpus: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """GPUs per trial; with a fraction, several trials share one. The shipped trainer uses at most 1; your own may use
    more. `auto`: 0 on the CPU. On GPUs of this machine, what a trial needs is measured first, and as many share a GPU
    as fit and are worth it; see the page on GPUs. On a cluster, and where a trainer cannot tell what it needs: 1."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where trials train. `auto`: CUDA if there is a CUDA device, else the CPU."""


LEAST_COMPLETE = 5
"""Trials that must be complete before anything is said of what a study may still gain."""


class Budget(Section):
    """When the study stops: at the first limit that is reached."""

    trials: int = Field(default=50, ge=1)
    """Number of trials, including enqueued and pruned trials."""
    hours: float | None = Field(default=None, gt=0)
    """Wall-clock hours; null: no limit."""
    gpu_hours: float | None = Field(default=None, gt=0)
    """GPU-hours: the time that trials hold a GPU, start-up and lost attempts included; half a GPU for two hours is one
    GPU-hour. A confirmation is not counted. null: no limit."""
    target: float | None = None
    """Stop when a complete trial reaches this validation accuracy, above 0 to 1, or this value of your own objective;
    null: no target."""
    patience: int | None = Field(default=None, ge=1)
    """Stop after this many complete trials in a row for which the possible improvement (an upper bound, with high
    probability, by a model of the complete trials) was smaller than the variation between seeds. The variation is
    measured by the confirmation, or else estimated from the last epochs of full trainings. The study goes on while
    fewer than 5 trials are complete, or the variation is not known. null: never stop for this reason."""
    min_gain_per_gpu_hour: float | None = Field(default=None, gt=0)
    """Stop when another GPU-hour is expected to improve the best complete trial by less than this, in the unit of the
    objective: 0.001 is 0.1 points of accuracy. It is the expected improvement of the most promising configuration, by
    the same model, divided by the GPU-hours of a trial until now, pruned ones included. The study goes on while fewer
    than 5 trials are complete. null: never stop for this reason."""
    when_reached: Literal["rung", "checkpoint"] = "rung"
    """What happens to running trials when a part of the budget other than trials stops the study. `rung`: each trains
    to its next rung, or to its end if no rung is left; `checkpoint`: each trains only to its next checkpoint. Both
    continue from there when the study is resumed with a larger budget."""


class Ray(Section):
    """Where the trials run."""

    address: str | None = None
    """Address of an existing Ray cluster; null: the value of `RAY_ADDRESS` if set, else a new Ray on this machine."""

    def cluster(self) -> str | None:
        """Address of the cluster that runs the trials, by the setting or by `RAY_ADDRESS`; None: this machine."""
        address = self.address or os.environ.get("RAY_ADDRESS") or LOCAL
        return None if address == LOCAL else address


class Storage(Section):
    """Where results are stored."""

    ledger: Annotated[str, Field(pattern=DATABASE_URL)] | None = None
    """SQLAlchemy URL of the Optuna database; null: `optuna.db` in the home folder."""
    checkpoints: str | None = None
    """Folder or fsspec URI for checkpoints. Every node must be able to reach it. null: a folder in the home folder."""
    keep: Literal["all", "complete", "unfinished"] = "complete"
    """Of which trials the last checkpoint is kept. `complete`: of complete and unfinished trials; `unfinished`: only of
    those that `hpo resume` can continue; `all`: also of pruned and failed trials, which nothing reads."""


class Tracking(Section):
    """What is sent to MLflow, and where; and whether TensorBoard gets the same."""

    enabled: bool = True
    """false: send nothing to MLflow."""
    uri: str | None = None
    """Tracking server or database; null: the value of `MLFLOW_TRACKING_URI` if set, else a database in the home
    folder."""
    experiment: str | None = None
    """Name of the MLflow experiment; null: the study's name."""
    system_metrics: bool | Literal["auto"] = "auto"
    """Record CPU, memory and GPU load of the driver's machine every 10 s. `auto`: only if trials use GPUs."""
    tensorboard: bool = False
    """true: also write event files for TensorBoard, in the folder `studies/NAME/tensorboard` of the home folder. This
    does not depend on `enabled`."""


class Spec(Section):
    """A study: what is trained, what is searched, and with which resources."""

    study: str = Field(pattern=NAME.pattern)
    """Name of the study: letters, digits, `_` and `-`, at most 64."""
    description: str = ""
    """What the study is for, in Markdown; shown in MLflow and in the report."""
    trainer: str = Field(default=SHIPPED_TRAINER, pattern=IMPORT_PATH)
    """`module:function` that trains one configuration; see `trainers.api.Trainer`."""
    data: DataConfig = Field(default_factory=DataConfig)
    """The images and their split, the same for all trials."""
    model: ModelConfig = Field(default_factory=ModelConfig)
    """The network."""
    train: TrainConfig = Field(default_factory=TrainConfig)
    """Fixed training settings."""
    extra: dict[str, Scalar] = Field(default_factory=dict)
    """Fixed settings of your own trainer."""
    space: Space
    """The searched parameters, by the dotted path of the setting, e.g. `train.lr`. They are drawn in this order."""
    objectives: tuple[ObjectiveChoice, ...] = ("val_accuracy",)
    """What is optimised. The first is what ASHA and the choice of the best trial use: `val_accuracy`, or, for rare
    classes, a mean over the classes: `val_balanced_accuracy` or `val_macro_f1`. With several objectives the sampler
    searches the whole Pareto front. These three and `images_per_s` (of training) are maximised; `seconds_per_epoch`,
    `params` and `macs` (of one image at the evaluation size) are minimised. Your own trainer may have any one
    objective instead, for example `{metric: val_loss, direction: minimize}`."""
    enqueue: tuple[dict[str, Choice], ...] = ()
    """Configurations that are tried first, in this order. The first is the baseline, with which all others are
    compared. Each may have a `label`, one line that says what it is, and other settings that could be searched. With
    such settings it is a reference: it is never stopped, and no sampler learns from it."""
    baseline: Baseline = Baseline()
    """How the baseline is named."""
    warm_start: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Sources of earlier results: names of studies in the home folder, exported YAML files, shipped recipes. Their best
    configurations inside this space are tried after those of `enqueue`, and `gp` learns from their results."""
    search: Search = Search()
    """How new configurations are suggested."""
    asha: Asha = Asha()
    """Which trials are stopped early."""
    resources: Resources = Resources()
    """The resources of one trial."""
    concurrency: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Largest number of trials at the same time; `auto`: as many as the machine or cluster has room for. On a cluster
    this changes with its nodes, and other studies there get their part."""
    retries: int = Field(default=2, ge=0)
    """How many times a trial is retried after its worker or node died."""
    stop_after_failures: int = Field(default=3, ge=0)
    """Stop the study if this many first trials fail in the same way before their first epoch; 0: never."""
    seed: int = Field(default=0, ge=0)
    """All random numbers of the study derive from it."""
    budget: Budget = Budget()
    """When the study stops."""
    ray: Ray = Ray()
    """Where the trials run."""
    storage: Storage = Storage()
    """Where results are stored."""
    tracking: Tracking = Tracking()
    """What is sent to MLflow, and where."""
    notify: Notify = Notify()
    """Whom the study tells of its end, of a failure and of a new best trial."""

    @property
    def baseline_name(self) -> str:
        """What people read: `baseline` or `baseline (LABEL)`."""
        label = self.baseline.label or (parts(self.enqueue[0], self.space).label if self.enqueue else None)
        return f"baseline ({label})" if label else "baseline"

    @property
    def objective(self) -> Objective:
        """The primary objective: what ASHA, the search policy and the choice of the best trial compare."""
        return objective(self.objectives[0])

    @property
    def shipped(self) -> bool:
        """Whether the shipped trainer trains. It alone reads `data` and `model`, and only for it is there a retraining
        that measures the test accuracy."""
        return self.trainer == SHIPPED_TRAINER

    @property
    def model_names(self) -> tuple[str, ...]:
        """The networks that the shipped trainer may train: several if `model.name` is searched."""
        return tuple(map(str, self._choices("model.name", self.model.name)))

    @property
    def weights(self) -> str:
        """What the networks begin with, for people: `pretrained`, `random`, or both if that is searched."""
        kinds = [
            "pretrained" if choice else "random" for choice in self._choices("model.pretrained", self.model.pretrained)
        ]
        return " or ".join(dict.fromkeys(kinds))

    def _choices(self, path: str, fixed: Choice) -> Sequence[Choice]:
        """The values that a setting may have in this study."""
        searched = self.space.get(path)
        return searched.choices if isinstance(searched, CategoricalParameter) else [fixed]

    @property
    def task(self) -> str:
        """What is trained, for people: `tf_efficientnetv2_s on cifar10`, or the name of another trainer."""
        return f"{' or '.join(self.model_names)} on {self.data.name}" if self.shipped else self.trainer

    def baseline_values(self) -> dict[str, Choice]:
        """The baseline's searched settings: the first enqueued configuration, or the lowest corner of the space."""
        return parts(self.enqueue[0], self.space).values if self.enqueue else first_values(self.space)

    def base(self) -> TrialConfig:
        """The training that `hpo.spec.configure.configure` varies: the fixed settings with the baseline's values.

        So a parameter that is inactive in a trial has the baseline's value, or the default of its setting.
        Raises ValueError if the settings break a rule (`load_spec` has checked them).
        """
        parts = {"data": self.data, "model": self.model, "train": self.train, "extra": self.extra}
        varied = assign(parts, self.baseline_values())
        return TrialConfig(**{**varied, "train": with_shared_sizes(varied["train"], self.space, self.enqueue)})

    def models(self) -> dict[ModelConfig, dict[str, Choice]]:
        """The models that trials can have, as far as their weights depend on it, each with searched values of it."""
        base, paths = self.base(), ("model.name", "model.pretrained")
        enqueued = [{path: entry[path] for path in paths if path in entry} for entry in self.enqueue]
        every = (*enqueued, *corners(subspace(self.space, paths)).combinations)
        return {configure(base, values).model: values for values in every}

    def to_yaml(self) -> str:
        """The specification with all defaults written out; `parse_spec` makes an equal `Spec` of it.

        The fixed settings do not include those that are searched: they would contradict the space. Passwords in URIs
        stay; `hpo.redact.redact` removes them.
        """
        data = self.model_dump(mode="json")
        for name in self.space:
            remove(data, name.split("."))
        return dump(data)

    def to_json(self) -> str:
        """The whole model as JSON, for `from_json`."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Spec:
        """The inverse of `to_json`. Raises pydantic's ValidationError; it does not run `hpo.validation.checks`."""
        return cls.model_validate_json(text, strict=True)
