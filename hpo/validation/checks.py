"""Rules between the parts of a specification, checked on its valid parts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

from hpo.spec.configure import LAST_SIZE, assign
from hpo.spec.corners import corners, describe, subspace
from hpo.spec.enqueued import LABEL_KEY, parts
from hpo.spec.objectives import OBJECTIVES, QUALITIES
from hpo.spec.parameters import Choice, Parameter, first_values
from hpo.spec.study import LABEL, SHIPPED_TRAINER, Spec
from hpo.spec.training import Training
from hpo.text import close
from hpo.validation.messages import PATTERNS, setting_rule
from hpo.validation.partial import PartialModel
from hpo.validation.problems import Problem
from hpo.validation.settings import EXTRA, settings, why_fixed
from hpo.validation.space_checks import NEEDS_GP, parameter_problems
from hpo.validation.yaml_reader import Document, Path
from trainers.api import TrialConfig, cross_checks

# Settings that `trainers.api.cross_checks` reads: only these parameters can break a rule between settings.
_CROSS_CHECKED = (
    "train.progressive.",
    "train.warmup_epochs",
    "train.score",
    "train.ema.",
    "train.compile",
    "train.cuda_graphs",
)

NO_OBJECTIVES = ("val_accuracy", "epoch", "checkpoint", "own")
"""Fields of `EpochMetrics` that are no objective of an own trainer."""


def study_problems(partial: PartialModel[Spec], spec: Spec) -> list[Problem]:
    """Broken rules that concern more than one key."""
    problems: list[Problem] = []
    valid: dict[str, Parameter] = {}
    for name, parameter in spec.space.items():
        if partial.is_valid_parameter(name):
            own = list(parameter_problems(partial, spec, name))
            problems += own
            if not own:
                valid[name] = parameter
    if not spec.space and partial.is_valid("space"):
        problems.append(partial.problem(("space",), "must have at least one parameter"))
    enqueued = list(_enqueue_problems(partial, spec, valid)) if partial.is_valid("enqueue") else []
    problems += enqueued
    if len(valid) == len(spec.space) and partial.is_valid("train", "space"):
        baseline = spec.baseline_values() if not enqueued else first_values(spec.space)
        problems += _combination_problems(partial, spec, baseline)
        problems += _reference_problems(partial, spec, baseline) if not enqueued else ()
    return [
        *problems,
        *_objective_problems(partial, spec),
        *_asha_problems(partial, spec),
        *_resource_problems(partial, spec),
        *_budget_problems(partial, spec),
        *_search_problems(partial, spec),
    ]


def training_problems(partial: PartialModel[Training], training: Training) -> list[Problem]:
    """Rules between the settings of a single training."""
    if not partial.is_valid("train"):
        return []
    parts: Any = training
    return [partial.problem(tuple(path.split(".")), rule) for path, rule in cross_checks(parts)]


def _combination_problems(partial: PartialModel[Spec], spec: Spec, baseline: Mapping[str, Choice]) -> Iterator[Problem]:
    """Rules between settings, checked at every reachable corner of the space; each broken rule is reported once."""
    fixed = {"train": spec.train, "extra": spec.extra, "data": spec.data, "model": spec.model}
    base = assign(fixed, baseline)
    reported: set[str] = set()
    for corner in corners(subspace(spec.space, _CROSS_CHECKED)).combinations:
        config = cast(TrialConfig, SimpleNamespace(**assign(base, corner)))
        for path, rule in cross_checks(config):
            if path not in reported:
                reported.add(path)
                yield corner_problem(partial, corner, path, rule)


def corner_problem(partial: PartialModel[Spec], corner: Mapping[str, Choice], path: str, rule: str) -> Problem:
    """A rule on the setting `path` that is broken at a corner of the space."""
    # The rule may name a group, e.g. `size`, of which one setting is searched.
    searched = [name for name in corner if name == path or name.startswith(f"{path}.")]
    where: Path = ("space", searched[0]) if searched else tuple(path.split("."))
    values = ", ".join(f"{name} = {value}" for name, value in corner.items())
    return partial.problem(where, rule, f"this happens at {values}" if corner else None)


def _setting_problems(
    partial: PartialModel[Spec], spec: Spec, path: Path, others: Mapping[str, Choice]
) -> Iterator[Problem]:
    """Rules of what an enqueued configuration says beside searched parameters: its label, and other settings."""
    for name, value in others.items():
        if name == LABEL_KEY:
            if not isinstance(value, str) or not re.fullmatch(LABEL, value):
                yield partial.problem((*path, name), f"must be {PATTERNS[LABEL]}")
        elif name in settings() or name.removeprefix(EXTRA) in spec.extra:
            if reason := why_fixed(name):
                yield partial.problem((*path, name), f"cannot be set here: {reason}")
            elif rule := setting_rule(name, value):
                yield partial.problem((*path, name), f"must be {rule}")
        elif partial.is_valid_parameter(name):
            rule = "is not a parameter of the space, nor another setting that a trial may change"
            known = [*spec.space, *settings(), *(EXTRA + key for key in spec.extra)]
            yield partial.problem((*path, name), rule, close(name, known))


def _reference_problems(partial: PartialModel[Spec], spec: Spec, baseline: Mapping[str, Choice]) -> Iterator[Problem]:
    """Rules between the settings of enqueued configurations that have some outside the space."""
    fixed = {"train": spec.train, "extra": spec.extra, "data": spec.data, "model": spec.model}
    base = assign(fixed, baseline)
    for index, entry in enumerate(spec.enqueue):
        given = parts(entry, spec.space)
        if given.settings:
            config = cast(TrialConfig, SimpleNamespace(**assign(base, given.values | given.settings)))
            for path, rule in cross_checks(config):
                yield partial.problem(("enqueue", index), f"{path} {rule}")


def configuration_problems(spec: Spec, values: Mapping[str, Any]) -> Iterator[Problem]:
    """Why a valid study cannot enqueue this configuration."""
    document = Document({"enqueue": [dict(values)]}, overridden={("enqueue",)})
    whole = spec.model_copy(update={"enqueue": (dict(values),)})
    partial = PartialModel(document, whole)
    if LAST_SIZE in values and LAST_SIZE not in spec.space and spec.base().train.compute_size is None:
        rule = "cannot be added, because the study counts compute in epochs of its own last image size"
        yield Problem(None, LAST_SIZE, values[LAST_SIZE], rule, "enqueue it in the specification of a new study")
        return
    found = list(_enqueue_problems(partial, whole, whole.space))
    for problem in found or _reference_problems(partial, whole, spec.baseline_values()):
        yield dataclasses.replace(problem, path=problem.path.removeprefix("enqueue[0]").removeprefix("."))


def _enqueue_problems(partial: PartialModel[Spec], spec: Spec, valid: Mapping[str, Parameter]) -> Iterator[Problem]:
    for index, entry in enumerate(spec.enqueue):
        path = ("enqueue", index)
        others = {name: value for name, value in entry.items() if name not in spec.space}
        yield from _setting_problems(partial, spec, path, others)
        values: dict[str, Choice] = {}
        unclear: set[str] = set()
        for name, parameter in valid.items():
            if any(other in unclear or other not in valid for other in parameter.when):
                unclear.add(name)
            elif not parameter.is_active(values):
                if name in entry:
                    yield partial.problem((*path, name), "is not active here, because its condition does not hold")
            elif name not in entry:
                unclear.add(name)
                yield partial.problem(path, f"must also give {name}, which is active here")
            elif not parameter.contains(entry[name]):
                unclear.add(name)
                yield partial.problem((*path, name), f"is outside the space: must be {describe(parameter)}")
            else:
                values[name] = entry[name]


def _objective_problems(partial: PartialModel[Spec], spec: Spec) -> Iterator[Problem]:
    names = spec.objectives
    if not partial.is_valid("objectives"):
        return
    own = [name for name in names if not isinstance(name, str)]
    if own and spec.trainer == SHIPPED_TRAINER and partial.is_valid("trainer"):
        yield partial.problem(
            ("objectives",),
            f"must be {', '.join(OBJECTIVES)} for the shipped trainer",
            "your own trainer may report others",
        )
    elif any(entry.metric in NO_OBJECTIVES for entry in own):
        yield partial.problem(
            ("objectives",),
            f"must not be {', '.join(NO_OBJECTIVES)}",
            "for the accuracy write: objectives: [val_accuracy]",
        )
    elif own and len(names) > 1:
        yield partial.problem(("objectives",), "must be a single one if it is an objective of your own trainer")
    elif not own and (not names or names[0] not in QUALITIES):
        yield partial.problem(
            ("objectives",), f"must start with {' or '.join(QUALITIES)}, because ASHA compares trials by the first"
        )
    elif names[0] in QUALITIES[1:] and spec.trainer != SHIPPED_TRAINER and partial.is_valid("trainer"):
        yield partial.problem(
            ("objectives",),
            f"must not be {names[0]} for your own trainer",
            f"write: objectives: [{{metric: {names[0]}, direction: maximize}}]",
        )
    if len(set(names)) < len(names):
        yield partial.problem(("objectives",), "must not contain an objective twice")
    target = spec.budget.target
    if not own and target is not None and not 0 < target <= 1 and partial.is_valid("budget.target"):
        yield partial.problem(("budget", "target"), "must be > 0 and <= 1, because it is an accuracy")


def _asha_problems(partial: PartialModel[Spec], spec: Spec) -> Iterator[Problem]:
    epochs = spec.train.epochs
    if partial.is_valid("train.epochs", "asha.max") and spec.asha.max not in (None, epochs):
        yield partial.problem(
            ("asha", "max"),
            f"must equal train.epochs, which is {epochs}, because schedules cover the whole training",
            "remove asha.max, or change train.epochs",
        )
    if partial.is_valid("train.epochs", "asha.grace_period") and spec.asha.grace_period > epochs:
        yield partial.problem(("asha", "grace_period"), f"must be at most train.epochs, which is {epochs}")


def _resource_problems(partial: PartialModel[Spec], spec: Spec) -> Iterator[Problem]:
    gpus, device = spec.resources.gpus, spec.resources.device
    if not partial.is_valid("resources.gpus", "resources.device") or gpus == "auto":
        return
    path = ("resources", "gpus")
    shipped = spec.trainer == SHIPPED_TRAINER and partial.is_valid("trainer")
    if gpus > 1 and shipped:
        yield partial.problem(
            path,
            "must be at most 1, because the shipped trainer uses one GPU per trial and the others would idle",
            "set gpus: 1; with more GPUs, more trials run at the same time (concurrency: auto)",
        )
    elif gpus > 1 and gpus != int(gpus):
        yield partial.problem(path, "must be a whole number if above 1, because trials can share only a single GPU")
    if gpus == 0 and device == "cuda":
        yield partial.problem(path, "must be > 0 if device is cuda")
    if gpus > 0 and device == "cpu":
        yield partial.problem(path, "must be 0 or auto if device is cpu")


def _budget_problems(partial: PartialModel[Spec], spec: Spec) -> Iterator[Problem]:
    budget, no_gpu = spec.budget, spec.resources.gpus == 0 or spec.resources.device == "cpu"
    for name, instead in (("gpu_hours", "use budget.hours"), ("min_gain_per_gpu_hour", "use budget.patience")):
        given = partial.is_valid(f"budget.{name}", "resources") and getattr(budget, name) is not None
        if given and no_gpu:
            yield partial.problem(("budget", name), "must be null if trials use no GPU", instead)
    for name in ("patience", "min_gain_per_gpu_hour"):
        given = partial.is_valid(f"budget.{name}", "objectives") and getattr(budget, name) is not None
        if given and len(spec.objectives) > 1:
            yield partial.problem(
                ("budget", name), "must be null with several objectives, because it needs a single one"
            )


def _search_problems(partial: PartialModel[Spec], spec: Spec) -> Iterator[Problem]:
    if not partial.is_valid("search"):
        return
    if spec.search.prior is not None:
        yield from _shared_prior_problems(partial, spec)
    if spec.search.landing:
        yield from _landing_problems(partial, spec)


def _landing_problems(partial: PartialModel[Spec], spec: Spec) -> Iterator[Problem]:
    path, off = ("search", "landing"), "remove search.landing"
    if spec.search.policy != "gp":
        rule = "needs search.policy: gp, the only policy that predicts how trials end"
        yield partial.problem(path, rule, f"set search.policy: gp, which is {spec.search.policy} now, or {off}")
    if not spec.asha.enabled and partial.is_valid("asha"):
        rule = "needs ASHA: without it no trial is pruned, and none can be taken up again"
        yield partial.problem(path, rule, f"set asha.enabled: true, or {off}")
    if len(spec.objectives) > 1 and partial.is_valid("objectives"):
        yield partial.problem(path, "must be false with several objectives, because it needs a single one", off)


def _shared_prior_problems(partial: PartialModel[Spec], spec: Spec) -> Iterator[Problem]:
    if spec.search.policy != "gp":
        yield partial.problem(("search", "prior"), NEEDS_GP, "set search.policy: gp, or remove search.prior")
    if not spec.enqueue and partial.is_valid("enqueue"):
        rule = "needs a baseline, whose values are the centres of the priors"
        yield partial.problem(("search", "prior"), rule, "enqueue a configuration, or remove search.prior")
