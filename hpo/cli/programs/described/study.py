"""A study: `hpo ls`, `hpo status`, and the end of `hpo run` and `hpo resume`."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from hpo.cli.programs.described.base import Document, Gain, Interval, Parameters, Part, Path, Step, Time, Value
from hpo.ledger.records import LeftNode, Origin
from hpo.ledger.transfer import Source
from hpo.results.progress import State


class Winner(Part):
    """The best trial of a study."""

    best: int | None
    """Number of the best trial: the one that a complete confirmation chose, else the best of the search."""
    objective: str
    """Name of the primary objective, by default `val_accuracy`."""
    best_value: float | None
    """Its value of the objective in the search."""
    best_val_accuracy: float | None
    """The same if the objective is the validation accuracy, 0 to 1."""
    best_ground: Literal["search", "confirmed"] | None
    """What the choice is based on."""
    confirmed_val_accuracy: float | None
    """Its mean validation accuracy over new seeds, 0 to 1; null if it is not confirmed."""
    confirmed_value: float | None
    """The same for any objective."""
    best_parameters: Parameters | None
    """Its searched parameters, by dotted path."""
    search_best: int | None
    """Number of the best trial of the search, whatever a confirmation says."""
    test_accuracy: float | None
    """Of its newest retraining, the mean over the seeds, 0 to 1; null before `hpo retrain`."""
    gain: Gain | None
    """How much better than the baseline it is; null if it is the baseline, or if no baseline is complete."""


class Progress(Part):
    """How far a study is."""

    ended: int
    """Trials that will never train again."""
    trials: int
    """The budget, `budget.trials`."""


class Known(Winner):
    """What every list and view says of a study."""

    study: str
    """Its name."""
    home: Path
    """The home folder."""
    folder: Path
    """The folder of the study: its report, exports, and the best configuration so far."""
    state: State
    """`silent`: a driver has the study open and shows no sign of life. `failed`: it is over and no trial succeeded."""
    last_sign_of_life: Time
    """Of its driver, by the clock of the driver's machine."""
    progress: Progress
    """How far it is."""
    created: Time | None
    """When it was created; null where it was recorded by an early version."""
    task: str
    """Model and data, in words."""


class Summary(Document, Known):
    """A study in the list of `hpo ls`."""

    kind: Literal["summary"]
    trials: int
    """How many trials there are."""


class Request(Part):
    """What somebody asked of the driver of a study."""

    request: str
    """Its id."""
    asks: str
    """What a person would have typed, without `hpo` and the name of the study."""
    by: str
    """Who asked, as `user@host`."""
    at: Time
    """When."""
    state: Literal["done", "refused", "void", "waiting", "kept"]
    """`void`: the driver that was asked had ended. `waiting`: it has not answered. `kept`: the next driver does it."""
    answered: Time | None
    """When the driver answered; null before that."""
    text: str | None
    """The answer in words; null before there is one."""
    trial: int | None
    """Number of the trial that was added, or is to be stopped."""


class RequestDocument(Document, Request):
    """`hpo stop`, `pause`, `add` and `set`."""

    kind: Literal["request"]
    study: str
    """The study that was asked, or its confirmation, if that runs."""


class Trial(Part):
    """One trial."""

    trial: int
    """Its number, from 0."""
    number: int = Field(deprecated=True)
    """The earlier name of `trial`."""
    state: str
    """complete, pruned, failed, interrupted, stopped, running or waiting."""
    status: str = Field(deprecated=True)
    """The earlier name of `state`."""
    reason: str | None
    """Why it ended."""
    origin: Origin | None
    """Who chose the configuration."""
    label: str | None
    """What a person called the configuration."""
    parameters: Parameters
    """Its searched parameters and its `settings`, by dotted path."""
    values: Parameters = Field(deprecated=True)
    """The earlier name of `parameters`."""
    settings: Parameters
    """Those of `parameters` that the study does not search; a person gave them."""
    epochs: int
    """How many it has trained."""
    value: float | None
    """Of the objective after its last epoch."""
    val_accuracy: float | None
    """The validation accuracy after its last epoch, 0 to 1."""
    history: list[float | None]
    """The value of the objective after each epoch; null where it was not a number."""
    attempts: int
    """How often it began."""
    taken_up: list[int]
    """Epochs after which landing took it up again, though ASHA had stopped it."""
    seconds: float | None
    """What its worker spent on the epochs; null where the trainer reports no time."""
    started: Time | None
    """When its first attempt began."""
    ended: Time | None
    """When it ended for good."""
    mlflow_run_id: str | None
    """Its run in MLflow."""


class FrontPoint(Part):
    """A trial of the Pareto front."""

    place: int
    """For `hpo export --pick`."""
    trial: int
    """Its number."""
    values: list[float | None]
    """In the order of `objectives`."""


class Effect(Part):
    """What a warm start was worth."""

    transferred: list[float | None]
    """Values of the objective of the trials that were taken over."""
    random: list[float | None]
    """Of the random ones."""
    superiority: float | None
    """The chance that a transferred trial is better than a random one, 0 to 1."""
    p: float | None
    """p-value of a two-sided test that both are alike."""
    verdict: str
    """In words."""


class WarmStart(Part):
    """The earlier studies that a study began with."""

    sources: list[Source]
    """What was taken from each earlier study."""
    effect: Effect | None
    """What it was worth; null where it cannot be told."""


class ConfirmationGain(Gain, Interval):
    """The gain of the confirmed configuration; `mean`, `low` and `high` are those of `interval`."""


class Versus(Part):
    """The paired difference of a configuration to the best of the others, in units of the objective."""

    mean: float
    """The mean difference."""
    interval: Interval | None
    """Null with too few seeds."""


class Ranked(Part):
    """A configuration of a confirmation."""

    trial: int
    """Number of its trial in the search."""
    baseline: bool
    """Whether it is the baseline."""
    accuracies: dict[str, float | None]
    """Value of the objective by new seed, counted from 0."""
    interval: Interval | None
    """Of `mean`; null with too few seeds."""
    failed: int
    """Trainings that failed."""
    waiting: int
    """Trainings that are not done."""
    compute: float
    """What a training computes, relative to the others."""
    tied: bool
    """Whether it is as good as the chosen one, as far as one can tell."""
    mean: float | None
    """Of the values."""
    against_best_other: Versus | None
    """Null with too few seeds."""
    probability_best: float | None
    """0 to 1."""
    dropped_after: int | None
    """Trainings after which it was given up; null if it was not."""


class Confirmation(Part):
    """What new seeds say of the best trials."""

    complete: bool
    """Whether all that is needed is trained."""
    done: int
    """Trainings that are done."""
    planned: int
    """Trainings in all."""
    chosen: int | None
    """Number of the trial that it chose; null before it is complete."""
    gain: ConfirmationGain | None
    """Over the baseline; null with too few seeds, or if the baseline was chosen."""
    gain_mean: float | None
    """How much better than the baseline the chosen configuration is on average."""
    probability_best: float | None
    """Of the chosen one, 0 to 1."""
    certainty: str | None
    """The same in words."""
    margin: float | None
    """Difference of the objective below which configurations count as equal; null with too few seeds."""
    ranking: list[Ranked]
    """The best configuration first."""


class Status(Document, Known):
    """`hpo status`, and the end of `hpo run` and `hpo resume`."""

    kind: Literal["status"]
    best_file: Path | None
    """The best configuration so far, for `hpo retrain`; null before a trial is complete."""
    checkpoints: str
    """Folder or URI that holds a folder of checkpoints per trial."""
    checkpoint_bytes: int | None
    """Their size; null if they are not on this machine."""
    seconds: float
    """Wall-clock time of all its drivers."""
    gpu_hours: float
    """Time of trials times the GPUs that they hold."""
    confirmation_gpu_hours: float
    """The same of its confirmation."""
    confirmation_worker_seconds: float
    """Time of the trainings of its confirmation."""
    ended: str | None
    """Which budget ended it, in words; null while it can go on."""
    requests: list[Request]
    """What was asked of its drivers, the oldest first."""
    mlflow_behind: int
    """Trials that MLflow does not have yet, or not as they are."""
    gpu_sharing: str | None
    """How many trials share a GPU by `resources.gpus: auto`, and what that rests on, in words; null where it did not
    decide that."""
    left_nodes: list[LeftNode]
    """Nodes that get no trials."""
    pruning_cost: str | None
    """What pruning may have cost, in words; the numbers are in `hpo audit`."""
    confirmation: Confirmation | None
    """Null where none was begun."""
    objectives: list[str]
    """Names of all objectives, the primary one first."""
    front: list[FrontPoint]
    """The Pareto front; with one objective the best trial."""
    warm_start: WarmStart | None
    """Null where it began with nothing."""
    next: list[Step]
    """What can be done now."""
    trials: list[Trial]
    """All of them, by number."""


class ConfirmationDocument(Document, Confirmation, Winner):
    """`hpo confirm`."""

    kind: Literal["confirmation"]
    study: str
    """The study that was confirmed."""
    best_file: Path
    """The configuration that was chosen, for `hpo retrain`."""
    gain: ConfirmationGain | None
    """Over the baseline; null with too few seeds, or if the baseline was chosen."""


class Row(Part):
    """A trial in the table of `hpo trials`. Each searched parameter is a key of its own, by its dotted path."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Value] = Field(init=False)
    trial: int
    """Its number, from 0."""
    state: str
    """complete, pruned, failed, interrupted, stopped, running or waiting."""
    origin: str | None
    """Who chose the configuration, in words."""
    epochs: int
    """How many it has trained."""
    stage: int | None
    """Of progressive learning, from 0."""
    value: float | None
    """Of the objective after its last epoch."""
    label: str | None
    """What a person called the configuration."""
    seconds: float | None
    """What its worker spent on the epochs; null where the trainer reports no time."""
    started: Time | None
    """When it began."""
    ended: Time | None
    """When it ended for good."""
    attempts: int
    """How often it began."""
    host: str | None
    """The node of the last attempt."""
    reason: str | None
    """Why it ended."""
    mlflow_run_id: str | None
    """Its run in MLflow."""


class EpochRow(Part):
    """An epoch in the table of `hpo trials --epochs`. Each metric is a key: see `trainers.api.EpochMetrics`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None] = Field(init=False)
    trial: int
    """Number of its trial."""
    epoch: int
    """From 1."""
    time: Time
    """When it was recorded."""
    value: float | None
    """Of the objective."""
