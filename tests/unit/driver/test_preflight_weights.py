"""The weights of every model that a study can train are checked before its first trial, and of no other model."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo.driver import preflight
from hpo.home import Home
from hpo.spec.study import Spec
from hpo.tracking.process.child import Child
from hpo.validation.loader import parse_spec
from trainers import data
from trainers.api import DataConfig
from trainers.network import weights

LR = "train.lr: {type: float, low: 0.001, high: 0.1}"
NAMES = "model.name: {type: categorical, choices: [resnet18, resnet34]}"


def study(model: str, *parameters: str) -> Spec:
    text = f"study: s\nmodel: {{{model}}}\ntracking: {{enabled: false}}\nspace:\n"
    return parse_spec(text + "".join(f"  {line}\n" for line in parameters), "s.yaml")


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (study("name: test_efficientnet", LR), ["test_efficientnet"]),
        (study("pretrained: false", LR, NAMES), ["resnet18", "resnet34"]),
    ],
)
def test_every_model_of_the_space_is_checked_and_no_other(
    spec: Spec, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    monkeypatch.setattr(weights, "check", lambda model: checked.append(model.name))
    monkeypatch.setattr(data, "prepare", lambda config, cache: DataConfig())
    preflight.preflight(spec, Home(tmp_path), Child())
    assert checked == names
