"""`hpo export`: trials of a study as files for this tool, for timm, or as trained models in other formats."""

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
from hpo.spec.training import Training
from hpo.validation.yaml_reader import read


class Format(str, Enum):
    """What an export is made for."""

    HPO = "hpo"
    """`hpo retrain`."""
    TIMM = "timm"
    """timm's training script."""
    HF = "hf"
    """timm's `local-dir:` and, uploaded, `hf-hub:`."""
    ONNX = "onnx"
    PT2 = "pt2"

    @property
    def is_configuration(self) -> bool:
        """Whether it is written from the study's record alone; the others need trained weights."""
        return self in (Format.HPO, Format.TIMM)


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    study: str
    form: Format = Format.HPO
    trial: int | None = None
    """A certain trial; None: the best one."""
    top: int | None = None
    """The best so many instead of one."""
    pick: str | None = None
    """A trial of the Pareto front: see `hpo.results.pareto.choose`."""
    model: Path | None = None
    """Folder of a retrained model; None: looked for in the home folder."""
    search_best: bool = False
    """By the search's one accuracy each, whatever a confirmation says."""
    output: Path | None = None
    """File of a configuration, folder of a model or of several trials."""


@dataclass(frozen=True)
class Exported:
    """One thing written."""

    file: Path
    trial: int
    details: dict[str, Any]
    """More for programs: the training, or the parity check."""
    remark: str = ""
    """More for a person."""

    def to_json(self, form: Format) -> dict[str, Any]:
        """For `--json`."""
        return {"file": str(self.file), "format": form.value, "trial": self.trial, **self.details}


def export(home: Home, request: Request) -> list[Exported]:
    """Write what is asked for, the best trial first.

    Raises:
        UsageError: no such study or trial, options that exclude each other, or no retrained model of a trial.
        FormatError: a model could not be converted, or the result computes something else.
    """
    if (request.trial is not None or request.pick is not None) and request.top is not None:
        raise UsageError("--trial and --pick name one trial and --top the best ones; leave one of them out")
    if request.model is not None and (request.form.is_configuration or request.top is not None):
        raise UsageError("--model names the one retrained model that --format hf, onnx or pt2 converts")
    study = read_study(home, request.study)
    rank_by = leaders if request.search_best else best_first
    trials = rank_by(study, request.top) if request.top is not None else [chosen_trial(study, request)]
    write = _configuration if request.form.is_configuration else _model
    return [write(home, request, study, trial, rank) for rank, trial in enumerate(trials, 1)]


def chosen_trial(study: StudyRecord, request: Request) -> TrialRecord:
    """The one trial that is asked for.

    Raises:
        UsageError: there is none, or it is named in two ways.
    """
    if request.pick is None:
        return pick(study, request.trial, search_best=request.search_best)
    if request.trial is not None:
        raise UsageError("--pick and --trial both name a trial; leave one of them out")
    return choose(study, request.pick)


def configuration_text(chosen: Training, form: Format) -> str:
    """The configuration in the form of `hpo` or `timm`."""
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
    return Exported(path, trial.number, {"training": chosen.model_dump(mode="json")})


def _model(home: Home, request: Request, study: StudyRecord, trial: TrialRecord, rank: int) -> Exported:
    source = request.model or retrained(home, study.name, trial.number)
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
        f"({parity.relative:.2g} of the greatest), same class for {parity.same_class}"
    )
    return Exported(parity.path, trial.number, {"model": str(source), "parity": check}, remark)


def retrained(home: Home, study: str, trial: int) -> Path:
    """The newest retrained model of a trial below the home folder.

    Raises:
        UsageError: there is none; says how to make one.
    """
    found = [
        file.parent
        for file in (home.path / "retrained").rglob("training.yaml")
        if (file.parent / "model.safetensors").is_file() and _source(file) == (study, trial)
    ]
    if not found:
        raise UsageError(
            f"trial {trial} of {study} has no retrained model in {home.path / 'retrained'}: train it by "
            f"`hpo export {study} --trial {trial} -o best.yaml` and `hpo retrain best.yaml`, "
            f"or name the folder that `hpo retrain` wrote by --model"
        )
    return max(found, key=lambda folder: (folder / "model.safetensors").stat().st_mtime)


def _source(file: Path) -> tuple[str | None, int | None]:
    document = read(file.read_text(encoding="utf-8"))
    return document.get(("provenance", "study")), document.get(("provenance", "trial"))
