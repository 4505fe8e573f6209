"""What timm's network refuses is a problem of the specification, found before anything is spent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file

from hpo.cli.tools import validate
from hpo.spec.study import Spec
from hpo.validation.loader import parse_spec, parse_training
from hpo.validation.problems import SpecificationError
from tests.support.specifications import TRAINER, only
from trainers.api import ModelConfig
from trainers.network import architecture

STUDY = """\
study: small
data: {name: shapes}
train: {epochs: 4, progressive: {stages: 2, size: {start: 64, end: 96}}}
space:
  train.lr: {type: float, low: 1e-4, high: 1e-2, log: true}
"""


def study(name: str, *parameters: str) -> str:
    return f"{STUDY}{''.join(f'  {line}{chr(10)}' for line in parameters)}model: {{name: {name}, pretrained: false}}\n"


def test_a_drop_path_is_refused_for_a_model_without_stochastic_depth() -> None:
    text = study("vgg11").replace("pretrained: false", "pretrained: false, drop_path: 0.1")
    problem = only(text)
    assert (problem.path, problem.value) == ("model.drop_path", 0.1)
    assert problem.rule == "vgg11 has no stochastic depth; set model.drop_path to 0"
    assert problem.line == 6


def test_a_searched_drop_path_is_refused_at_the_corner_where_the_model_has_none() -> None:
    models = "model.name: {type: categorical, choices: [test_efficientnet, vgg11]}"
    drop_path = "model.drop_path: {type: float, low: 0.0, high: 0.2}"
    text = study("x", models, drop_path).replace("model: {name: x, pretrained: false}", "model: {pretrained: false}")
    problem = only(text)
    assert problem.path == "space.model.drop_path"
    assert problem.hint == "this happens at model.name = vgg11, model.drop_path = 0.2"
    parse_spec(text.replace("high: 0.2", "high: 0.2, when: {model.name: {ne: vgg11}}"), "study.yaml")


def test_a_model_of_one_size_is_refused_for_stages_of_several() -> None:
    problem = only(study("beit_base_patch16_224"))
    assert problem.path == "model.name"
    assert "the stages and the evaluation have 64, 96 px" in problem.rule
    parse_spec(study("beit_base_patch16_224").replace("stages: 2", "stages: 1"), "study.yaml")
    parse_spec(study("vit_tiny_patch16_224"), "study.yaml")


@pytest.mark.parametrize(
    ("parameter", "size"),
    [
        ("train.progressive.size.end: {type: int, low: 96, high: 128}", "97"),
        ("train.progressive.size.end: {type: int, low: 96, high: 128, step: 32}", None),
        ("train.progressive.stages: {type: int, low: 2, high: 4}", "80"),
    ],
)
def test_sizes_between_the_corners_of_a_search_are_tried_too(parameter: str, size: str | None) -> None:
    """SAM's Hiera takes multiples of 32 only."""
    fixed = ", end: 96" if "end" in parameter else "stages: 2, "
    text = study("sam2_hiera_tiny", parameter).replace(fixed, "")
    if size is None:
        parse_spec(text, "study.yaml")
    else:
        assert f"images of {size} px" in only(text).rule


SMALL = """\
study: small
data: {name: shapes, train_limit: LIMIT}
model: {name: MODEL, pretrained: false}
train: {epochs: 2, batch_size: BATCH, progressive: {stages: 2, sizes: [16, SIZE], grow_batch: GROW}}
space:
  train.lr: {type: float, low: 1e-4, high: 1e-2, log: true}
"""


def small(model: str = "test_resnet", *, limit: int = 9, batch: int = 1, size: int = 32, grow: bool = False) -> str:
    values = {"LIMIT": limit, "MODEL": model, "BATCH": batch, "SIZE": size, "GROW": str(grow).lower()}
    text = SMALL
    for name, value in values.items():
        text = text.replace(name, str(value))
    return text


@pytest.mark.parametrize(
    ("text", "path", "pixels"),
    [
        (small(), "train.batch_size", 16),
        (small(grow=True), "train.batch_size", 32),
        (small(limit=1, batch=8), "data.train_limit", 16),
        (small(limit=1, batch=8, size=64, grow=True), "data.train_limit", 16),
        (small("test_efficientnet"), "train.batch_size", 16),
    ],
)
def test_batches_of_one_image_are_refused_where_the_network_cannot_normalise_them(
    text: str, path: str, pixels: int
) -> None:
    problem = only(text)
    assert problem.path == path
    assert f"a batch of one image of {pixels} px leaves a normalisation layer a single value" in problem.rule


@pytest.mark.parametrize(
    "text", [small("test_vit", size=16), small(size=64, grow=True), small(batch=2), small("test_efficientnet_ln")]
)
def test_batches_of_one_image_are_accepted_where_the_network_trains_on_them(text: str) -> None:
    parse_spec(text, "study.yaml")


def test_a_searched_batch_of_one_image_is_refused_at_its_corner() -> None:
    text = small().replace("batch_size: 1, ", "") + "  train.batch_size: {type: int, low: 1, high: 8}\n"
    problem = only(text)
    assert (problem.path, problem.hint) == ("space.train.batch_size", "this happens at train.batch_size = 1")


def test_a_single_training_is_checked_like_a_study() -> None:
    text = "model: {name: vgg11, drop_path: 0.1, pretrained: false}\n"
    with pytest.raises(SpecificationError, match=r"model\.drop_path: vgg11 has no stochastic depth"):
        parse_training(text, "best.yaml")


def test_a_trainer_of_ones_own_may_have_any_network() -> None:
    text = study("vgg11").replace("pretrained: false", "pretrained: false, drop_path: 0.1")
    parse_spec(f"{text}{TRAINER}\n", "study.yaml")


def test_validate_warns_of_weights_that_may_belong_to_a_model_of_another_padding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = architecture.create(ModelConfig(name="tf_efficientnet_lite0", pretrained=False), 10).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    specification = tmp_path / "study.yaml"
    files = f"model.pretrained: {{type: categorical, choices: [false, {tmp_path}/weights.safetensors]}}"
    text = study("tf_efficientnet_lite0", files).replace(", pretrained: false", "")
    specification.write_text(text)
    validate(str(specification))
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{specification}: valid.")
    (warning,) = shown.err.splitlines()
    assert "weights of efficientnet_lite0 also fit tf_efficientnet_lite0" in warning
    assert "set model.name=efficientnet_lite0" in warning


def test_what_takes_seconds_can_begin_with_a_study_whose_networks_are_not_checked_yet() -> None:
    seen: list[str] = []
    with pytest.raises(SpecificationError, match="drop_path"):
        parse_spec(
            study("vgg11").replace("pretrained: false", "pretrained: false, drop_path: 0.1"),
            "a.yaml",
            (),
            seen_of(seen),
        )
    assert seen == ["small"]
    with pytest.raises(SpecificationError, match="timm"):
        parse_spec(study("no_such_model"), "a.yaml", (), seen_of(seen))
    assert seen == ["small"], "a study with a simple mistake starts nothing"


def seen_of(seen: list[str]) -> Callable[[Spec], None]:
    return lambda spec: seen.append(spec.study)
