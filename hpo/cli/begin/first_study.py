"""A first study from a few answers: the shipped study for such data and such a machine, with the answers put in."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import search_spaces
from hpo.errors import UsageError
from hpo.home import command
from hpo.spec.commented import commented
from hpo.spec.study import Spec
from hpo.validation.loader import parse_spec
from hpo.validation.problems import SpecificationError
from hpo.validation.yaml_reader import read

Change = Literal["no batch norm", "one size", "random weights"]
REMEDIES: Mapping[str, Change] = {
    "model.bn_momentum": "no batch norm",
    "model.name": "one size",
    "model.pretrained": "random weights",
}
"""What a model may refuse, and how the study then differs from the shipped one."""
SIZE = "train.progressive.size.start"
LAST_SIZE = "train.progressive.size.end"
STAGES = "train.progressive.stages"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a person wants. The fields in which the shipped studies differ come first."""

    data: str
    device: str
    """`gpu` or `cpu`."""
    model: str
    trials: int
    name: str
    hours: float | None = None
    root: str | None = None
    """Folder of the images; None for generated images."""
    pretrained: bool | None = None
    """None: pretrained weights if the images are real and timm has weights for the model."""


def template(data: str, device: str) -> dict[str, Any]:
    """The settings of the shipped study for such data and such a machine, and its defaults for the questions."""
    large = "cifar10" if data == "folder" else data
    name = "quickstart" if data == "shapes" else large if device == "gpu" else f"{large}_cpu"
    settings: dict[str, Any] = read(search_spaces.studies()[name].read_text(encoding="utf-8")).data
    return settings


def first_study(answers: Answers, file: Path) -> tuple[str, Spec, list[str]]:
    """The text of the file, the study in it, and what it does not have because the model refuses it.

    Raises:
        UsageError: no study of this model passes the checks.
    """
    changes: list[Change] = []
    while True:
        text = _header(file) + commented(_settings(answers, changes))
        try:
            return text, parse_spec(text, str(file)), [_TEXTS[change] for change in changes]
        except SpecificationError as error:
            refused = {REMEDIES[problem.path] for problem in error.problems if problem.path in REMEDIES}
            if answers.pretrained:
                refused -= {"random weights"}
            if not refused - set(changes):
                rules = "; ".join(f"{problem.path}: {problem.rule}" for problem in error.problems)
                raise UsageError(f"there is no valid study with these answers: {rules}; nothing was written") from error
            changes += sorted(refused - set(changes))


_TEXTS: Mapping[Change, str] = {
    "no batch norm": "the model has no batch normalisation, so model.bn_momentum is left out",
    "one size": "the model does not take the sizes of progressive learning, so all images have the size of its weights",
    "random weights": "timm has no pretrained weights of the model, so it begins with random ones",
}


def _settings(answers: Answers, changes: list[Change]) -> dict[str, Any]:
    settings = template(answers.data, answers.device)
    pretrained = answers.data != "shapes" if answers.pretrained is None else answers.pretrained
    settings["study"] = answers.name
    settings["description"] = f"{answers.model} on {answers.data}"
    settings["data"] = {"name": answers.data, **_place(answers, settings)}
    settings["model"] |= {"name": answers.model, "pretrained": pretrained and "random weights" not in changes}
    settings["resources"] = {"device": "auto"} if answers.device == "gpu" else settings["resources"]
    settings["budget"] |= {"trials": answers.trials, "hours": answers.hours}
    if "no batch norm" in changes:
        settings["model"].pop("bn_momentum", None)
    if "one size" in changes:
        _keep_one_size(settings, answers.model)
    return settings


def _place(answers: Answers, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Where the images are, and how many are used: of a folder of one's own, all."""
    if answers.data == "folder":
        return {"root": answers.root, "cache_size": settings["train"]["progressive"]["size"]["end"]}
    place = {} if answers.root is None else {"root": answers.root, "download": True}
    return place | without(settings["data"], "name")


def without(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The settings but the one of this name."""
    return {key: value for key, value in settings.items() if key != name}


def _keep_one_size(settings: dict[str, Any], model: str) -> None:
    """Leave out everything by which image sizes could change; the label of the baseline names such sizes."""
    from trainers.network.architecture import own_size

    settings["train"]["progressive"] |= {"stages": 1, "size": {"end": own_size(model)}}
    for values in (settings["space"], *settings["enqueue"]):
        for name in (SIZE, LAST_SIZE, STAGES):
            values.pop(name, None)
    settings.pop("baseline", None)


def _header(file: Path) -> str:
    schema, quoted = (search_spaces.FOLDER / "schema.json").as_uri(), shlex.quote(str(file))
    return f"""\
{search_spaces.MODELINE}{schema}
#
# Made by {command("init", "")}. Each comment explains the setting below it.
#
#   check it         {command("validate", "", quoted)}
#   plan and cost    {command(f"run {quoted} --dry-run", "")}
#   run it           {command("run", "", quoted)}
#   all settings     {command("schema --markdown", "")}

"""
