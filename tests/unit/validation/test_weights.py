"""A file of weights that no training can begin with is a problem of the specification, in the trainer's words."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

import search_spaces
from hpo.export.timm import timm_settings
from hpo.spec.training import Training
from hpo.validation.loader import load_training, parse_spec
from hpo.validation.problems import SpecificationError
from tests.support.specifications import TRAINER, only
from trainers.api import ModelConfig, WeightsError
from trainers.network import catalogue, weight_path, weights

MODEL = "test_efficientnet"
STUDY = """\
study: small
data: {name: shapes}
train: {epochs: 1, progressive: {stages: 1, sizes: [32]}}
space:
  train.lr: {type: float, low: 1e-4, high: 1e-2, log: true}
"""
State = dict[str, torch.Tensor]
Write = Callable[[Path, State], object]


@pytest.fixture(scope="module")
def state() -> State:
    return dict(timm.create_model(MODEL).state_dict())


def study(*lines: str) -> str:
    return STUDY + "".join(f"{line}\n" for line in lines)


def of(path: Path) -> str:
    return study(f"model: {{name: {MODEL}, pretrained: {path}}}")


def cut(path: Path, save: Callable[[], object]) -> None:
    save()
    path.write_bytes(path.read_bytes()[:5000])


def spoilt(state: State) -> State:
    return {**state, "bn1.weight": torch.full_like(state["bn1.weight"], float("nan"))}


UNUSABLE: dict[str, tuple[Write, str]] = {
    "nothing": (lambda path, state: None, "there is no file"),
    "a folder": (lambda path, state: path.mkdir(), "is a folder; give the file of weights in it"),
    "a pipe": (lambda path, state: os.mkfifo(path), "is a pipe, a socket or a device"),
    "a link": (lambda path, state: path.symlink_to("gone"), "is a link to gone, which does not exist"),
    "an empty file": (lambda path, state: path.touch(), "is empty"),
    "a pointer": (lambda path, state: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    "a page": (lambda path, state: path.write_text("<!doctype html>\n"), "is an HTML or XML page"),
    "a part": (lambda path, state: cut(path, lambda: save_file(state, path)), "truncated"),
    "a part of a pickle": (lambda path, state: cut(path, lambda: torch.save(state, path)), "truncated"),
    "a list": (lambda path, state: torch.save([torch.ones(2)], path), "holds a value of type list"),
    "a wrapper": (lambda path, state: torch.save({"net": state}, path), "'net', one level too deep"),
    "another model": (lambda path, state: save_file({"a": torch.ones(2)}, path), "does not fit EfficientNet"),
    "what diverged": (lambda path, state: save_file(spoilt(state), path), "NaN or infinite"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_validate_refuses_weights_that_no_training_could_begin_with(what: str, state: State, tmp_path: Path) -> None:
    write, words = UNUSABLE[what]
    path = tmp_path / "w.bin"
    write(path, state)
    problem = only(of(path))
    assert (problem.path, problem.line) == ("model.pretrained", 6)
    assert words in problem.rule
    with pytest.raises(WeightsError) as trainers:
        weights.check(ModelConfig(name=MODEL, pretrained=str(path)))
    assert str(trainers.value).removeprefix("model.pretrained: ") == problem.rule


def test_a_single_training_refuses_such_weights_too(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_text("<html>")
    for recipe in search_spaces.recipes():
        with pytest.raises(SpecificationError, match=r"model\.pretrained: .*/w\.bin is an HTML or XML page"):
            load_training(recipe, [f"model.pretrained={tmp_path}/w.bin"])


@pytest.mark.parametrize("address", ["gs://bucket/w.pth", "https://example.org/w.safetensors", "hf://timm/model"])
def test_an_address_is_told_from_a_file(address: str) -> None:
    assert (
        f"{address} is an address, not a file" in only(study(f"model: {{name: {MODEL}, pretrained: '{address}'}}")).rule
    )


@pytest.mark.parametrize("name", ["~nobody-of-this-name/w.pth", "n" * 300, "w\\0.pth"])
def test_a_name_that_no_file_has_is_one_problem(name: str) -> None:
    assert only(study(f'model: {{name: {MODEL}, pretrained: "{name}"}}')).path == "model.pretrained"


def test_weights_that_fit_only_some_of_the_models_are_a_problem_at_the_others(state: State, tmp_path: Path) -> None:
    save_file(state, tmp_path / "w.safetensors")
    searched = "  model.name: {type: categorical, choices: [test_efficientnet, test_resnet]}"
    problem = only(study(searched, f"model: {{pretrained: {tmp_path}/w.safetensors}}"))
    assert problem.path == "model.pretrained"
    assert problem.hint == "this happens at model.name = test_resnet"
    parse_spec(of(tmp_path / "w.safetensors"), "study.yaml")


def test_each_searched_file_of_weights_is_read(state: State, tmp_path: Path) -> None:
    save_file(state, tmp_path / "w.safetensors")
    (tmp_path / "empty.pth").touch()
    choices = f"choices: [false, {tmp_path}/w.safetensors, {tmp_path}/empty.pth]"
    searched = f"  model.pretrained: {{type: categorical, {choices}}}"
    problem = only(study(searched, f"model: {{name: {MODEL}}}"))
    assert problem.path == "space.model.pretrained"
    assert problem.rule.startswith(f"{tmp_path}/empty.pth is empty")
    parse_spec(study(searched.replace(f", {tmp_path}/empty.pth", ""), f"model: {{name: {MODEL}}}"), "study.yaml")


def test_weights_that_timm_does_not_have_are_a_problem_without_a_network() -> None:
    problem = only(study("model: {name: efficientnetv2_xl}"))
    assert (problem.path, problem.line) == ("model.pretrained", 6)
    assert problem.rule.startswith("timm has no pretrained weights for efficientnetv2_xl")
    parse_spec(study("model: {name: efficientnetv2_xl, pretrained: false}"), "study.yaml")


def test_a_trainer_of_ones_own_reads_its_weights_itself(tmp_path: Path) -> None:
    parse_spec(study(TRAINER, "model: {name: test_efficientnet, pretrained: gone.pth}"), "study.yaml")


def searched(folder: Path) -> str:
    names = "  model.name: {type: categorical, choices: [test_efficientnet.r160_in1k, test_resnet]}"
    return study(names, f"model: {{pretrained: {folder}}}")


def test_a_folder_has_the_weights_of_each_model_under_its_name_with_or_without_the_tag(
    state: State, tmp_path: Path
) -> None:
    save_file(state, tmp_path / "test_efficientnet.safetensors")
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "test_resnet.pth")
    spec = parse_spec(searched(tmp_path), "study.yaml")
    for model in spec.models():
        loaded = weights.pretrained_state(model, timm.create_model(model.name, num_classes=3))
        expected = state if "efficient" in model.name else torch.load(tmp_path / "test_resnet.pth")
        assert loaded.keys() < expected.keys(), "without the classifier"
        assert all(torch.equal(value, expected[name]) for name, value in loaded.items())


def test_a_folder_that_lacks_a_model_is_a_problem_of_that_model_alone(state: State, tmp_path: Path) -> None:
    save_file(state, tmp_path / "test_efficientnet.safetensors")
    problem = only(searched(tmp_path))
    assert (problem.path, problem.hint) == ("model.pretrained", "this happens at model.name = test_resnet")
    assert problem.rule.endswith("there is no test_resnet.safetensors or test_resnet.pth")


def test_a_file_with_the_whole_name_is_taken_before_one_without_the_tag(state: State, tmp_path: Path) -> None:
    for name in ("test_efficientnet.bin", "test_efficientnet.r160_in1k.safetensors"):
        (tmp_path / name).touch()
    found = weight_path.existing(str(tmp_path), "test_efficientnet.r160_in1k")
    assert found == tmp_path / "test_efficientnet.r160_in1k.safetensors"
    assert weight_path.existing(str(tmp_path), "test_efficientnet") == tmp_path / "test_efficientnet.bin"


def test_a_file_of_a_folder_belongs_to_its_model_so_nobody_is_warned_of_its_twin(tmp_path: Path) -> None:
    assert catalogue.padding_warning("tf_efficientnet_lite0", str(tmp_path)) is None
    assert catalogue.padding_warning("tf_efficientnet_lite0", str(tmp_path / "w.safetensors")) is not None


def test_the_file_for_timms_own_script_names_the_file_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "test_resnet.pth").touch()
    model = ModelConfig(name="test_resnet", pretrained=str(tmp_path))
    settings = timm_settings(Training(model=model))
    assert (settings["pretrained"], settings["pretrained_path"]) == (True, str(tmp_path / "test_resnet.pth"))
