"""The recipes of the field: each says what its source says."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter
from ruamel.yaml import YAML

import search_spaces
from trainers import schedule
from trainers.api import TrialConfig

PATHS = {path.stem: path for path in sorted((Path(search_spaces.FOLDER) / "recipes").glob("*.yaml"))}
IMAGES = 50_000


def load(name: str) -> TrialConfig:
    mapping = YAML(typ="safe", pure=True).load(PATHS[name].read_text(encoding="utf-8"))
    assert set(mapping) == {"data", "model", "train"}
    return TypeAdapter(TrialConfig).validate_python(mapping)


def steps(config: TrialConfig) -> int:
    assert isinstance(config.train.batch_size, int)
    return config.train.epochs * (IMAGES // config.train.batch_size)


@pytest.mark.parametrize("name", PATHS)
def test_a_recipes_header_names_source_command_hardware_and_result(name: str) -> None:
    header = "".join(line for line in PATHS[name].read_text().splitlines(keepends=True) if line.startswith("#"))
    for word in ("source  ", "command  ", "hardware  ", "published  ", f"hpo retrain {name} "):
        assert word in header
    assert max(map(len, PATHS[name].read_text().splitlines())) <= 120


@pytest.mark.parametrize("name", PATHS)
def test_no_recipe_clips_gradients(name: str) -> None:
    config = load(name)
    assert config.data.name == "cifar10"
    assert config.train.clip_grad == 0  # no source does; the default does


def test_the_papers_recipe_has_the_settings_of_the_paper() -> None:
    train = load("paper_cifar10").train
    assert (train.batch_size, train.lr, train.schedule, train.weight_decay) == (512, 0.001, "cosine", 0)
    assert train.augment.cutout > 0
    assert train.augment.randaugment_layers == 0
    assert abs(steps(load("paper_cifar10")) - 10_000) < 50


def test_googles_recipe_has_the_settings_of_its_code() -> None:
    train = load("google_cifar10ft").train
    assert (train.optimizer, train.momentum, train.ema.decay) == ("rmsprop", 0.9, 0.9996)
    assert (train.schedule, train.label_smoothing, train.lr) == ("constant", 0.1, 0.0005 * 512 / 256)
    assert abs(steps(load("google_cifar10ft")) - 10_000) < 50


@pytest.mark.parametrize(
    ("size", "batch", "lr", "decay"), [("s", 256, 1e-3, 0.999), ("m", 128, 5e-4, 0.9993), ("l", 64, 3e-4, 0.9995)]
)
def test_hankyul2s_recipes_have_the_settings_of_its_configurations(
    size: str, batch: int, lr: float, decay: float
) -> None:
    config = load(f"hankyul2_{size}")
    train = config.train
    assert config.model.name == f"tf_efficientnetv2_{size}.in1k"
    assert (train.epochs, train.batch_size, train.lr, train.ema.decay) == (20, batch, lr, decay)
    assert (train.optimizer, train.schedule, train.augment.cutmix) == ("adamw", "onecycle", 1)
    assert [stage.size for stage in schedule.stages(train.progressive, train.epochs)] == [224]
    # 0.1 spread over the nine wrong classes.
    assert train.label_smoothing * 9 / 10 == pytest.approx(0.1, abs=1e-4)


def test_jahongir7174s_recipe_has_its_four_stages() -> None:
    train = load("jahongir7174_four_stages").train
    stages = schedule.stages(train.progressive, train.epochs)
    assert [stage.size for stage in stages] == [int(128 + (300 - 128) * (index + 1) / 4) for index in range(4)]
    assert [stage.randaugment for stage in stages] == pytest.approx([5, 6.667, 8.333, 10], abs=1e-3)
    assert [stage.dropout for stage in stages] == pytest.approx([0, 0.0667, 0.1333, 0.2], abs=1e-4)
    assert [stage.last_epoch - stage.first_epoch + 1 for stage in stages] == [75] * 4
    assert train.lr == 0.256 * 128 / 4096


def test_the_recipe_of_the_course_notebook_has_its_known_settings() -> None:
    train = load("course_notebook").train
    assert (train.batch_size, train.optimizer, train.lr, train.schedule, train.epochs) == (
        32,
        "sgd",
        0.05,
        "cosine",
        50,
    )
    assert (train.momentum, train.nesterov) == (0.9, False)
