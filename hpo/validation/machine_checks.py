"""Rules that depend on this machine: the models that timm knows, files, GPUs and CPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator

from hpo.spec.parameters import CategoricalParameter
from hpo.spec.study import SHIPPED_TRAINER, Spec
from hpo.spec.training import Training
from hpo.validation.partial import Draft
from hpo.validation.problems import Problem
from hpo.validation.yaml_reader import Path
from trainers import devices
from trainers.api import ModelConfig
from trainers.network import catalogue


def study_machine_problems(found: Draft[Spec], spec: Spec) -> Iterator[Problem]:
    """What cannot run: models first, then what a trial asks of this machine, unless a cluster will run it."""
    here = (spec.ray.address or os.environ.get("RAY_ADDRESS") or "local") == "local"
    if spec.trainer == SHIPPED_TRAINER and found.intact("trainer"):
        yield from _model_problems(found, spec.model, here)
        searched = spec.space.get("model.name")
        if isinstance(searched, CategoricalParameter) and found.knows_parameter("model.name"):
            for index, choice in enumerate(searched.choices):
                yield from _name_problems(found, ("space", "model.name", "choices", index), str(choice))
    if here and found.intact("resources", "ray"):
        yield from _resource_problems(found, spec)


def training_machine_problems(found: Draft[Training], training: Training) -> Iterator[Problem]:
    """The same for a single training."""
    trainer = training.provenance.trainer if training.provenance else SHIPPED_TRAINER
    if trainer == SHIPPED_TRAINER and found.intact("provenance.trainer"):
        yield from _model_problems(found, training.model, here=True)


def _model_problems(found: Draft[Spec] | Draft[Training], model: ModelConfig, here: bool) -> Iterator[Problem]:
    if found.intact("model.name"):
        yield from _name_problems(found, ("model", "name"), model.name)
    weights = model.pretrained
    if here and isinstance(weights, str) and not os.path.isfile(os.path.expanduser(weights)):
        hint = "true takes timm's weights, false none; a path is relative to the working directory"
        yield found.problem(("model", "pretrained"), "must be true, false or a file of weights that exists", hint)


def _name_problems(found: Draft[Spec] | Draft[Training], path: Path, name: str) -> Iterator[Problem]:
    if not catalogue.known_model(name):
        near = catalogue.close_models(name)
        yield found.problem(path, "is no model of timm", f"did you mean {' or '.join(near)}?" if near else None)


def _resource_problems(found: Draft[Spec], spec: Spec) -> Iterator[Problem]:
    wanted = spec.resources
    cores = os.cpu_count() or 1
    if wanted.cpus > cores:
        yield found.problem(("resources", "cpus"), f"must be at most {cores}, the CPU cores of this machine")
    gpus = 0.0 if wanted.gpus == "auto" else wanted.gpus
    if not gpus and wanted.device != "cuda":
        return
    present = devices.gpu_count()  # imports torch, so only where the answer matters
    if wanted.device == "cuda" and not present:
        yield found.problem(
            ("resources", "device"),
            "must be auto or cpu: torch finds no CUDA device here",
            "check nvidia-smi and that torch is a CUDA build, or name a cluster with ray.address",
        )
    elif gpus > present:
        yield found.problem(
            ("resources", "gpus"),
            f"must be at most {present}, the GPUs of this machine",
            "name a cluster with ray.address, or set gpus: auto",
        )
