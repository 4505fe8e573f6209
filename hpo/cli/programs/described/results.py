"""What is planned and what is made of a study: plans, exports, reports, retrainings, audits."""

from __future__ import annotations

from typing import Any, Literal

from hpo.cli.programs.described.base import Document, Parameters, Part, Path, Step, Value
from hpo.cli.programs.described.study import Winner
from hpo.search.asha import Mismatch
from hpo.search.pruning_audit import Rehearsal


class PlannedRung(Part):
    """A rung of ASHA."""

    epoch: int
    """After which epoch it decides."""
    expected_trials: float
    """How many trials will reach it."""


class Planned(Part):
    """A configuration that a study will try, or one like it."""

    trial: int
    """Its number."""
    label: str | None
    """What a person called it."""
    parameters: Parameters
    """By dotted path."""


class Plan(Document):
    """`hpo run --dry-run`."""

    kind: Literal["plan"]
    study: str
    """Its name."""
    task: str
    """Model and data, in words."""
    trials: int
    """The budget."""
    epochs_per_trial: int
    """Of a trial that trains to the end."""
    expected_epochs: float
    """Of all trials, with pruning."""
    expected_complete: float
    """Trials that train to the end."""
    rungs: list[PlannedRung]
    """Empty without pruning."""
    concurrency: int
    """Trials at once."""
    device: Literal["cpu", "cuda"]
    """What trials use."""
    cpus_per_trial: float
    """CPU cores that a trial holds."""
    gpus_per_trial: float
    """GPUs that a trial holds."""
    seconds: float | None
    """Wall-clock time without start-up; null where nothing was measured, as for a trainer of one's own."""
    gpu_hours: float | None
    """Of all trials; null where nothing was measured."""
    memory_bytes: float | None
    """Of one trial."""
    disk_bytes: float | None
    """Of checkpoints, at most."""
    cost: list[str]
    """The same for people."""
    measured: list[str]
    """What was measured, for people."""
    warnings: list[str]
    """What may be wrong with the specification."""
    configurations: list[Planned]
    """The first configurations."""


class PlannedRepeat(Part):
    """A configuration that a confirmation will train again."""

    trial: int
    """Number of its trial in the search."""
    baseline: bool
    """Whether it is the baseline."""
    value: float | None
    """In the search."""
    parameters: Parameters
    """By dotted path."""
    trainings: int
    """How many may be needed."""
    seconds: float | None
    """Of one training; null if it is not known."""


class ConfirmationPlan(Document):
    """`hpo confirm --dry-run`."""

    kind: Literal["confirmation_plan"]
    study: str
    """Its name."""
    trainings: int
    """How many may be needed in all."""
    next_round: int
    """How many of them come first; bad configurations are given up after it."""
    epochs: int
    """Of all trainings."""
    concurrency: int
    """Trainings at once."""
    device: Literal["cpu", "cuda"]
    """What trainings use."""
    seconds: float | None
    """Wall-clock time."""
    worker_seconds: float | None
    """Time of all trainings together; null if it is not known."""
    gpu_hours: float | None
    """Null if it is not known."""
    disk_bytes: float | None
    """Of checkpoints, at most; null if it is not known."""
    configurations: list[PlannedRepeat]
    """The best first."""


class Parity(Part):
    """How an exported model compares with the one that it was made from."""

    images: int
    """Random images that both were given."""
    max_abs_difference: float
    """Of the logits."""
    max_relative_difference: float
    """The same, of the largest logit."""
    same_class: int
    """Images of the same class."""


class Exported(Document):
    """`hpo export`; with `--top` a list of them."""

    kind: Literal["export"]
    study: str
    """Where it comes from."""
    file: Path
    """The file, or the folder of a model."""
    trial: int
    """Number of its trial."""


class ExportedConfiguration(Exported):
    """A configuration."""

    format: Literal["hpo", "timm"]
    """Who reads it."""
    training: dict[str, Any]
    """What the file says: see `search_spaces/training.schema.json`."""


class ExportedModel(Exported):
    """A model."""

    format: Literal["hf", "onnx", "pt2"]
    """Who reads it."""
    model: str
    """Folder of the retrained model."""
    parity: Parity
    """Whether it computes the same."""


class Model(Part):
    """A model of a study that tried several: its best complete trial, and what it costs."""

    model: str
    """timm's name."""
    best: int | None
    """Number of the trial; null while none is complete."""
    value: float | None
    """Of the objective, in the search."""
    confirmed_value: float | None
    """The highest mean of its configurations over new seeds; null if none was confirmed."""
    trials: int
    """Those that have started."""
    complete: int
    """Those that trained for all their epochs."""
    params: int | None
    """Number of parameters."""
    macs: int | None
    """Multiply-accumulates of the forward pass of one image at the evaluation size."""
    seconds_per_epoch: float | None
    """Median over the epochs of all its trials."""
    training_seconds: float | None
    """Of the best trial."""
    choice_by: list[Literal["macs", "seconds"]]
    """The costs by which no cheaper model is as good."""


class Models(Part):
    """Which model for which budget."""

    answers: list[str]
    """By multiply-accumulates and by seconds of training, in words."""
    cautions: list[str]
    """How far these can be trusted, in words."""
    models: list[Model]
    """The best first."""


class Finding(Winner):
    """What a report says first of a study."""

    study: str
    """Its name."""
    found: str
    """What was found, in words."""
    configuration: Parameters | None
    """As `best_parameters`."""
    verdict: str
    """Whether it is real, in words."""
    why: str | None
    """Why the verdict is so; null where that needs no words."""
    next: Step | None
    """What to do next."""
    models: Models | None
    """Null if all trials have one model."""


class Report(Document):
    """`hpo report`."""

    kind: Literal["report"]
    page: Path
    """HTML."""
    uri: str
    """The page for a browser."""
    markdown: Path
    table: Path
    """The trials, as CSV."""
    studies: list[Finding]
    """In the order of the command."""


class Retraining(Document):
    """`hpo retrain`; the same without `schema` and `kind` is in `summary.json`."""

    kind: Literal["retraining"]
    study: str | None
    """Where the configuration comes from; null for a recipe or a file of your own."""
    trial: int | None
    """Number of the trial; null if there is none."""
    test_accuracy: float | None
    """The mean over the seeds, 0 to 1; null without test images."""
    test_accuracy_std: float | None
    """Sample standard deviation; null for one seed."""
    seeds: list[int]
    """One per training."""
    test_accuracies: list[float]
    """In the order of the seeds."""
    val_accuracy_of_the_trial: float | None
    """In the search, 0 to 1; null if it is not known."""
    changes: dict[str, Value]
    """Settings that differ from those of the trial."""
    output: Path
    folders: list[Path]
    """Weights and metrics, in the order of the seeds."""
    versions: dict[str, str]
    """Of the packages that matter."""
    git_commit: str | None
    """Of the working directory; null without one."""


class Statistic(Part):
    """A share or a rank agreement with its 95 % interval; null where it is not known."""

    value: float | None
    """The best guess."""
    low: float | None
    """Lower end."""
    high: float | None
    """Upper end."""


class AuditedRung(Part):
    """What the controls say about one rung."""

    level: float
    """In units of the resource of ASHA."""
    controls: int
    """Controls that reached it before their last epoch."""
    tau: Statistic
    """Kendall's tau-b between the values at the rung and at the end, -1 to 1."""
    retention: Statistic
    """The chance that the winner survives it, 0 to 1."""


class AuditDocument(Document):
    """`hpo audit`."""

    kind: Literal["audit"]
    study: str
    """Its name."""
    controls: int
    """Trials that trained to the end whatever ASHA decided."""
    pending: int
    """Controls that failed or are not complete yet."""
    rungs: list[AuditedRung]
    """Empty with too few controls."""
    winner_pruned: Statistic
    """The chance that ASHA would have stopped the winner, 0 to 1."""
    present: Rehearsal | None
    """The study's own setting of ASHA."""
    advised: Rehearsal | None
    """The cheapest setting that rarely prunes the winner."""
    decisions: int
    """Recorded decisions of ASHA."""
    taken_up: int
    """Trials that trained on after ASHA had stopped them, because landing took them up."""
    landed: int
    """Those of them that are complete."""
    mismatches: list[Mismatch]
    """Decisions that do not follow from the values that were recorded before them."""
    remarks: list[str]
    """For people."""
