"""Rules between the parts of a specification, checked on whatever of it could be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

from hpo.spec.configure import assign
from hpo.spec.corners import corners, describe, part
from hpo.spec.parameters import Choice, Parameter, first_values
from hpo.spec.study import Spec
from hpo.spec.training import Training
from hpo.text import close
from hpo.validation.partial import Draft
from hpo.validation.problems import Problem
from hpo.validation.space_checks import parameter_problems
from hpo.validation.yaml_reader import Path
from trainers.api import TrialConfig, cross_checks

# What `trainers.api.cross_checks` reads: only these parameters can break a rule between settings.
_ENTANGLED = (
    "train.progressive.",
    "train.warmup_epochs",
    "train.score",
    "train.ema.",
    "train.compile",
    "train.cuda_graphs",
    "train.batch_size",
)


def study_problems(found: Draft[Spec], spec: Spec) -> list[Problem]:
    """All broken rules that need more than one key to see."""
    problems: list[Problem] = []
    sound: dict[str, Parameter] = {}
    for name, parameter in spec.space.items():
        if found.knows_parameter(name):
            own = list(parameter_problems(found, spec, name))
            problems += own
            if not own:
                sound[name] = parameter
    if not spec.space and found.intact("space"):
        problems.append(found.problem(("space",), "must hold at least one parameter"))
    enqueued = list(_enqueue_problems(found, spec, sound)) if found.intact("enqueue") else []
    problems += enqueued
    if len(sound) == len(spec.space) and found.intact("train", "space"):
        baseline = spec.baseline_values() if not enqueued else first_values(spec.space)
        problems += _combination_problems(found, spec, baseline)
    return [
        *problems,
        *_objective_problems(found, spec),
        *_asha_problems(found, spec),
        *_resource_problems(found, spec),
        *_budget_problems(found, spec),
    ]


def training_problems(found: Draft[Training], training: Training) -> list[Problem]:
    """Rules between the settings of a single training."""
    if not found.intact("train"):
        return []
    parts: Any = training
    return [found.problem(tuple(path.split(".")), rule) for path, rule in cross_checks(parts)]


def _combination_problems(found: Draft[Spec], spec: Spec, baseline: Mapping[str, Choice]) -> Iterator[Problem]:
    """Rules between settings, at every corner of the space that can be reached; each one reported once."""
    fixed = {"train": spec.train, "extra": spec.extra, "data": spec.data, "model": spec.model}
    base = assign(fixed, baseline)
    reported: set[str] = set()
    for corner in corners(part(spec.space, _ENTANGLED)):
        config = cast(TrialConfig, SimpleNamespace(**assign(base, corner)))
        for path, rule in cross_checks(config):
            if path in reported:
                continue
            reported.add(path)
            # A whole `size` is at fault where one of its ends is searched.
            guilty = [name for name in corner if name == path or name.startswith(f"{path}.")]
            where: Path = ("space", guilty[0]) if guilty else tuple(path.split("."))
            values = ", ".join(f"{name} = {value}" for name, value in corner.items())
            yield found.problem(where, rule, f"reached at {values}" if corner else None)


def _enqueue_problems(found: Draft[Spec], spec: Spec, sound: Mapping[str, Parameter]) -> Iterator[Problem]:
    for index, entry in enumerate(spec.enqueue):
        path = ("enqueue", index)
        for name in entry:
            if name not in spec.space and found.knows_parameter(name):
                yield found.problem((*path, name), "is no parameter of the space", close(name, spec.space))
        values: dict[str, Choice] = {}
        unsure: set[str] = set()
        for name, parameter in sound.items():
            if any(other in unsure or other not in sound for other in parameter.when):
                unsure.add(name)
            elif not parameter.is_active(values):
                if name in entry:
                    yield found.problem((*path, name), "is not active here: its condition does not hold")
            elif name not in entry:
                unsure.add(name)
                yield found.problem(path, f"must give {name} too, which is active here")
            elif not parameter.contains(entry[name]):
                unsure.add(name)
                yield found.problem((*path, name), f"lies outside the space: must be {describe(parameter)}")
            else:
                values[name] = entry[name]


def _objective_problems(found: Draft[Spec], spec: Spec) -> Iterator[Problem]:
    names = spec.objectives
    if not found.intact("objectives"):
        return
    if names[:1] != ("val_accuracy",):
        yield found.problem(("objectives",), "must begin with val_accuracy, by which ASHA prunes")
    if len(set(names)) < len(names):
        yield found.problem(("objectives",), "must not name an objective twice")


def _asha_problems(found: Draft[Spec], spec: Spec) -> Iterator[Problem]:
    epochs = spec.train.epochs
    if found.intact("train.epochs", "asha.max") and spec.asha.max not in (None, epochs):
        yield found.problem(
            ("asha", "max"),
            f"must equal train.epochs, which is {epochs}: schedules span the whole training",
            "leave it out, or change train.epochs",
        )
    if found.intact("train.epochs", "asha.grace_period") and spec.asha.grace_period > epochs:
        yield found.problem(("asha", "grace_period"), f"must be at most train.epochs, which is {epochs}")


def _resource_problems(found: Draft[Spec], spec: Spec) -> Iterator[Problem]:
    gpus, device = spec.resources.gpus, spec.resources.device
    if not found.intact("resources.gpus", "resources.device") or gpus == "auto":
        return
    path = ("resources", "gpus")
    if gpus > 1 and gpus != int(gpus):
        yield found.problem(path, "must be whole above 1: only a single GPU can be shared")
    if gpus == 0 and device == "cuda":
        yield found.problem(path, "must be > 0 for device: cuda")
    if gpus > 0 and device == "cpu":
        yield found.problem(path, "must be 0 or auto for device: cpu")


def _budget_problems(found: Draft[Spec], spec: Spec) -> Iterator[Problem]:
    no_gpu = spec.resources.gpus == 0 or spec.resources.device == "cpu"
    if found.intact("budget.gpu_hours", "resources") and spec.budget.gpu_hours is not None and no_gpu:
        yield found.problem(("budget", "gpu_hours"), "must be null where trials get no GPU", "use budget.hours")
    if found.intact("budget.patience", "objectives") and spec.budget.patience is not None and len(spec.objectives) > 1:
        yield found.problem(("budget", "patience"), "must be null with several objectives: it bounds the gain of one")
