"""`hpo export`: write trials of a study as configurations for hpo or timm, or as trained models in other formats."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from hpo.errors import UsageError
from hpo.export.timm import timm_yaml
from hpo.files import write_atomically
from hpo.home import Home
from hpo.ledger.reader import read_study
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.best import best_first, leaders, pick, training
from hpo.results.pareto import choose
from hpo.spec.configure import changes, configure
from hpo.spec.study import SHIPPED_TRAINER
from hpo.spec.training import Training
from hpo.validation.partial import partial_model
from hpo.validation.yaml_reader import read


class Format(str, Enum):
    """The format of an export."""

    HPO = "hpo"
    """A configuration for `hpo retrain`."""
    TIMM = "timm"
    """A configuration for timm's training script."""
    HF = "hf"
    """A model folder that timm loads with `local-dir:` or, once uploaded, with `hf-hub:`."""
    ONNX = "onnx"
    """A model for ONNX runtimes."""
    PT2 = "pt2"
    """A model for `torch.export.load`."""

    @property
    def is_configuration(self) -> bool:
        """Whether the format needs only the study's record; the other formats need trained weights."""
        return self in (Format.HPO, Format.TIMM)


@dataclass(frozen=True)
class Request:
    """The choices of the command line."""

    study: str
    form: Format = Format.HPO
    trial: int | None = None
    """Number of the trial; None: the best trial."""
    top: int | None = None
    """How many of the best trials; None: a single trial."""
    pick: str | None = None
    """Which trial of the Pareto front: see `hpo.results.pareto.choose`."""
    model: Path | None = None
    """Folder of a retrained model; None: search the home folder for one."""
    search_best: bool = False
    """Rank the trials by their accuracy in the search, also if there is a confirmation."""
    output: Path | None = None
    """File for a configuration, folder for a model or for several trials; None: in the home folder."""

    def check(self) -> None:
        """Raise UsageError for options that exclude each other."""
        named = self.trial is not None or self.pick is not None
        if named and self.top is not None:
            raise UsageError("--trial and --pick name one trial, --top names several; leave one of them out")
        if named and self.search_best:
            raise UsageError("--search-best takes the best trial, --trial and --pick name one; leave one of them out")
        if self.model is not None and (self.form.is_configuration or self.top is not None):
            raise UsageError("--model names the model to convert, so it needs --format hf, onnx or pt2, and no --top")


@dataclass(frozen=True)
class Exported:
    """A file or folder that was written."""

    file: Path
    study: str
    trial: int
    details: dict[str, Any]
    """For programs: the training, or the result of the parity check."""
    remark: str = ""
    """For people: the result of the parity check."""

    def to_json(self, form: Format) -> dict[str, Any]:
        """The entry for `--json`."""
        file = str(self.file.absolute())
        return {"study": self.study, "file": file, "format": form.value, "trial": self.trial, **self.details}


def export(home: Home, request: Request) -> list[Exported]:
    """Write the requested trials, the best one first.

    Raises:
        UsageError: no such study or trial, options that exclude each other, or no retrained model of the trial.
        FormatError: a model could not be converted, or the converted model computes something else.
    """
    request.check()
    study = read_study(home, request.study)
    rank_by = leaders if request.search_best else best_first
    trials = rank_by(study, request.top) if request.top is not None else [chosen_trial(study, request)]
    write = _configuration if request.form.is_configuration else _model
    return [write(home, request, study, trial, rank) for rank, trial in enumerate(trials, 1)]


def chosen_trial(study: StudyRecord, request: Request) -> TrialRecord:
    """The trial that a request without `top` names.

    Raises:
        UsageError: there is no such trial, or `pick` and `trial` are both given.
    """
    if request.pick is None:
        return pick(study, request.trial, search_best=request.search_best)
    if request.trial is not None:
        raise UsageError("--pick and --trial both name a trial; leave one of them out")
    return choose(study, request.pick)


def configuration_text(chosen: Training, form: Format) -> str:
    """The text of a configuration in format `HPO` or `TIMM`.

    Raises:
        UsageError: another trainer than the shipped one trained it, so timm's script would train something else.
    """
    trainer = chosen.provenance.trainer if chosen.provenance else SHIPPED_TRAINER
    if form is Format.TIMM and trainer != SHIPPED_TRAINER:
        raise UsageError(
            f"--format timm: this configuration was trained by {trainer}, which timm's script does not know; "
            "leave --format out to write the configuration for that trainer"
        )
    if form is Format.TIMM:
        return timm_yaml(chosen)
    return chosen.to_yaml()


def _name(request: Request, trial: TrialRecord, rank: int) -> str:
    if request.top is not None:
        return f"top-{rank}-trial-{trial.number:05d}"
    return "best" if request.trial is None and request.pick is None else f"trial-{trial.number:05d}"


def _configuration(home: Home, request: Request, study: StudyRecord, trial: TrialRecord, rank: int) -> Exported:
    chosen = training(study, trial.number)
    ending = ".timm.yaml" if request.form is Format.TIMM else ".yaml"
    path = home.exports(study.name) / f"{_name(request, trial, rank)}{ending}"
    if request.output is not None:
        path = request.output / path.name if request.top is not None else request.output
    write_atomically(path, configuration_text(chosen, request.form))
    return Exported(path, study.name, trial.number, {"training": chosen.model_dump(mode="json")})


def _model(home: Home, request: Request, study: StudyRecord, trial: TrialRecord, rank: int) -> Exported:
    if request.model is None and not study.spec.shipped:
        raise UsageError(
            f"--format {request.form.value} needs a model that `hpo retrain` wrote, but {study.name} was trained by "
            f"{study.spec.trainer}, which `hpo retrain` does not support; name the folder of a model with --model"
        )
    source = request.model or retrained(home, study, trial)
    name, form = _name(request, trial, rank), request.form.value
    folder = home.exports(study.name) / name / form
    if request.output is not None:
        folder = request.output / name if request.top is not None else request.output
    from trainers.formats import convert

    parity = convert(source, folder, request.form.value)  # type: ignore[arg-type]
    check = {
        "images": parity.images,
        "max_abs_difference": parity.difference,
        "max_relative_difference": parity.relative,
        "same_class": parity.same_class,
    }
    remark = (
        f"parity with {source}: logits of {parity.images} random images differ by at most {parity.difference:.2g} "
        f"({parity.relative:.2g} of the largest), same class for {parity.same_class}"
    )
    return Exported(parity.path, study.name, trial.number, {"model": str(source), "parity": check}, remark)


def retrained(home: Home, study: StudyRecord, trial: TrialRecord) -> Path:
    """The newest retrained model of a trial below the home folder; a model with changed settings is not the trial's.

    Raises:
        UsageError: there is none. The text says how to train one.
    """
    folders = [
        file.parent
        for file in (home.path / "retrained").rglob("training.yaml")
        if (file.parent / "model.safetensors").is_file() and _is_of(file, study, trial)
    ]
    if not folders:
        file = home.command(f"export {study.name} --trial {trial.number}", "-o best.yaml")
        raise UsageError(
            f"trial {trial.number} of {study.name} has no retrained model in {home.path / 'retrained'}. Train one with "
            f"`{file}` and `{home.command('retrain best.yaml')}`, or name the folder of a retrained model with --model"
        )
    return max(folders, key=lambda folder: (folder / "model.safetensors").stat().st_mtime)


def _is_of(file: Path, study: StudyRecord, trial: TrialRecord) -> bool:
    """Whether a training is that of the trial, with the trial's own settings."""
    found = partial_model(read(file.read_text(encoding="utf-8")), Training, {}).model
    source = found.provenance if found else None
    if found is None or source is None or source.trial != trial.number:
        return False
    if source.study not in (study.name, *study.former_names):
        return False
    return not changes(found.config(), configure(study.spec.base(), trial.assigned))
