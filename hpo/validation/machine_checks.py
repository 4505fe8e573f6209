"""Rules that depend on this machine: timm's models and what they refuse, files of weights, GPUs and CPU cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hpo.home import Home
from hpo.processes import usable_cpus
from hpo.spec.configure import configure
from hpo.spec.corners import corners, subspace
from hpo.spec.enqueued import parts
from hpo.spec.parameters import CategoricalParameter, IntParameter, Parameter
from hpo.spec.study import SHIPPED_TRAINER, Spec
from hpo.spec.training import Training
from hpo.validation.checks import corner_problem
from hpo.validation.partial import PartialModel
from hpo.validation.problems import Problem
from hpo.validation.yaml_reader import Path
from trainers import devices
from trainers.api import ModelConfig, WeightsError
from trainers.network import catalogue, weight_path

_SIZE = "train.progressive.size."
_STAGES = "train.progressive.stages"
_DECIDING = (
    "model.",
    _SIZE,
    _STAGES,
    "train.progressive.form",
    "train.progressive.grow_batch",
    "train.batch_size",
    "train.freeze_blocks",
    "train.layer_decay",
)
"""Beginnings of the settings that a network can refuse."""


def study_machine_problems(partial: PartialModel[Spec], spec: Spec) -> Iterator[Problem]:
    """Models and weights that do not exist, and resources that this machine lacks unless a cluster runs the study."""
    here = spec.ray.cluster() is None
    if spec.trainer == SHIPPED_TRAINER and partial.is_valid("trainer"):
        yield from _model_problems(partial, spec.model)
        searched = spec.space.get("model.name")
        if isinstance(searched, CategoricalParameter) and partial.is_valid_parameter("model.name"):
            for index, choice in enumerate(searched.choices):
                yield from _name_problems(partial, ("space", "model.name", "choices", index), str(choice))
        for index, entry in enumerate(spec.enqueue if partial.is_valid("enqueue") else ()):
            if "model.name" in entry and "model.name" not in spec.space:
                yield from _name_problems(partial, ("enqueue", index, "model.name"), str(entry["model.name"]))
    if here and partial.is_valid("resources", "ray"):
        yield from _resource_problems(partial, spec)


def training_machine_problems(partial: PartialModel[Training], training: Training) -> Iterator[Problem]:
    """Models and weights of a single training that do not exist."""
    trainer = training.provenance.trainer if training.provenance else SHIPPED_TRAINER
    if trainer == SHIPPED_TRAINER and partial.is_valid("provenance.trainer"):
        yield from _model_problems(partial, training.model)


def weights_warnings(spec: Spec) -> list[str]:
    """Warnings of files of weights that fit a model, but may belong to another one; usually none."""
    if spec.trainer != SHIPPED_TRAINER:
        return []
    files = [(model.name, model.pretrained) for model in spec.models() if isinstance(model.pretrained, str)]
    return [text for name, file in files if (text := catalogue.padding_warning(name, file))]


def check_images(spec: Spec, home: Home) -> None:
    """Read every image file of a study whose images are files of yours. `hpo run` finds them decoded in `home`.

    Raises:
        DataError: the folder or some of its files cannot be used. The text lists them.
        UsageError: the home folder cannot be written to.
    """
    if not spec.shipped or spec.data.name not in ("folder", "hf") or spec.ray.cluster() is not None:
        return
    from trainers import data

    cache = str(home.create().cache)
    data.prepare(spec.data, cache)
    data.remove_former(spec.data, cache)


def _model_problems(partial: PartialModel[Any], model: ModelConfig) -> Iterator[Problem]:
    if partial.is_valid("model.name"):
        yield from _name_problems(partial, ("model", "name"), model.name)
    file = model.pretrained
    if not isinstance(file, str) or weight_path.is_folder(file):  # what a folder lacks depends on the model
        return
    if rule := _refusal(lambda: weight_path.existing(file, model.name)):
        yield partial.problem(("model", "pretrained"), rule)


def _name_problems(partial: PartialModel[Any], path: Path, name: str) -> Iterator[Problem]:
    if not catalogue.known_model(name):
        near = catalogue.close_models(name)
        yield partial.problem(path, "is not a timm model", f"did you mean {' or '.join(near)}?" if near else None)


def _resource_problems(partial: PartialModel[Spec], spec: Spec) -> Iterator[Problem]:
    wanted = spec.resources
    cores = usable_cpus()
    if wanted.cpus > cores:
        yield partial.problem(
            ("resources", "cpus"), f"must be at most {cores}, the number of cores of this machine that may be used"
        )
    gpus = 0.0 if wanted.gpus == "auto" else wanted.gpus
    if not gpus and wanted.device != "cuda":
        return
    present = devices.gpu_count()  # imports torch, so only where the answer matters
    if wanted.device == "cuda" and not present:
        yield partial.problem(
            ("resources", "device"),
            "must be auto or cpu, because torch finds no CUDA device on this machine",
            "check nvidia-smi and that torch is a CUDA build, or set ray.address to use a cluster",
        )
    elif gpus > present:
        yield partial.problem(
            ("resources", "gpus"),
            f"must be at most {present}, the number of GPUs of this machine",
            "set gpus: auto, or set ray.address to use a cluster",
        )


# ------------------------------------------------------------------------------------------------ networks


def study_network_problems(partial: PartialModel[Spec], spec: Spec) -> Iterator[Problem]:
    """What the networks of a study refuse at the corners of its space, once for each network and setting."""
    if spec.trainer != SHIPPED_TRAINER:
        return
    from trainers.network.feasibility import network_problems  # loads torch and timm, which takes seconds

    base = spec.base()
    reported: set[tuple[str, str]] = set()
    for corner in corners(_deciding(spec.space)).combinations:
        config = configure(base, corner)
        for path, rule in network_problems(config.model, config.train, config.data.train_limit):
            if (config.model.name, path) not in reported:
                reported.add((config.model.name, path))
                yield corner_problem(partial, corner, path, rule)
    for index, entry in enumerate(spec.enqueue):
        given = parts(entry, spec.space)
        if given.settings:
            config = configure(base, given.values | given.settings)
            for path, rule in network_problems(config.model, config.train, config.data.train_limit):
                yield partial.problem(("enqueue", index), f"{path} {rule}")


def training_network_problems(partial: PartialModel[Training], training: Training) -> Iterator[Problem]:
    """What the network of a single training refuses."""
    if training.provenance and training.provenance.trainer != SHIPPED_TRAINER:
        return
    from trainers.network.feasibility import network_problems

    for path, rule in network_problems(training.model, training.train, training.data.train_limit):
        yield partial.problem(tuple(path.split(".")), rule)


def study_weights_problems(partial: PartialModel[Spec], spec: Spec) -> Iterator[Problem]:
    """Weights that do not exist or do not fit, for every model that a trial can have."""
    if spec.trainer != SHIPPED_TRAINER:
        return
    rules = {rule: corner for model, corner in spec.models().items() if (rule := _weights_rule(model))}
    for rule, corner in rules.items():
        yield corner_problem(partial, corner, "model.pretrained", rule)


def training_weights_problems(partial: PartialModel[Training], training: Training) -> Iterator[Problem]:
    """Weights of a single training that do not exist or do not fit its model."""
    if training.provenance and training.provenance.trainer != SHIPPED_TRAINER:
        return
    if rule := _weights_rule(training.model):
        yield partial.problem(("model", "pretrained"), rule)


def _weights_rule(model: ModelConfig) -> str | None:
    from trainers.network import weights

    return _refusal(lambda: weights.check_source(model))


def _refusal(check: Callable[[], object]) -> str | None:
    """What a check of the trainer says of the weights; None if it accepts them."""
    try:
        check()
    except WeightsError as error:
        return str(error).removeprefix("model.pretrained: ")
    return None


def _deciding(space: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """The parameters that decide about the network and its sizes, with values that show what it refuses.

    The corners of the other sizes are not enough: a network may refuse every size that is not a multiple of 32. So the
    neighbours of the ends are tried too, and every number of stages.
    """
    return {name: _with_neighbours(name, parameter) for name, parameter in subspace(space, _DECIDING).items()}


def _with_neighbours(name: str, parameter: Parameter) -> Parameter:
    if not isinstance(parameter, IntParameter) or not (name == _STAGES or name.startswith(_SIZE)):
        return parameter
    values = range(parameter.low, parameter.high + 1, parameter.step)
    tried = values if name == _STAGES else sorted({*values[:2], *values[-2:]})
    return CategoricalParameter(type="categorical", choices=tuple(tried), when=parameter.when)
