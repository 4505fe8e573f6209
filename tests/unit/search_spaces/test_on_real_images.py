"""Every recipe and every shipped study trains: real CIFAR, the file's own settings, a tiny network and few images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import search_spaces
from hpo.spec.configure import configure
from hpo.spec.corners import corners
from hpo.spec.enqueued import parts
from hpo.spec.study import Spec
from hpo.spec.training import Training
from trainers import schedule
from trainers.api import Context, EpochMetrics, ModelConfig, TrialConfig
from trainers.checkpoint import DirectoryStore
from trainers.finetune import train

FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


def configurations(name: str) -> Iterator[TrialConfig]:
    """That of a recipe, or those that a study enqueues and the last corner of its space.

    The files are read without the checks of their networks, which take seconds; test_shipped_studies.py makes these."""
    content = YAML(typ="safe", pure=True).load(search_spaces.shipped()[name].read_text(encoding="utf-8"))
    if name in search_spaces.recipes():
        yield Training.model_validate(content).config()
        return
    spec = Spec.model_validate(content)
    for entry in spec.enqueue:
        given = parts(entry, spec.space)
        yield configure(spec.base(), given.values | given.settings)
    yield configure(spec.base(), corners(spec.space).combinations[-1])


def small(config: TrialConfig, root: str) -> TrialConfig:
    """The same training of 20 real images at 32 pixels and a little above."""
    train, stages = config.train, config.train.progressive.stages
    name = config.data.name if config.data.name in FOLDERS else "cifar10"
    if not (Path(root) / FOLDERS[name]).is_dir():
        pytest.skip(f"HPO_TEST_CIFAR does not name a folder with {FOLDERS[name]}")
    images = 20 if name == "cifar10" else 100  # one of each class
    return replace(
        config,
        data=replace(config.data, name=name, root=root, train_limit=images, validation_limit=images),
        model=ModelConfig(name="test_efficientnet", pretrained=False, drop_path=config.model.drop_path),
        train=replace(
            train,
            epochs=stages + 1,
            batch_size=20,
            accumulate=train.accumulate if train.accumulate == "auto" else min(train.accumulate, 2),
            warmup_epochs=min(train.warmup_epochs, 1),
            eval_size=32 if train.eval_size else None,
            compute_size=32,
            progressive=replace(train.progressive, sizes=tuple(range(32, 32 + stages))),
        ),
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("name", search_spaces.shipped())
def test_every_recipe_and_every_study_trains_on_real_images(name: str, tmp_path: Path, cache: str) -> None:
    root = os.environ.get("HPO_TEST_CIFAR", "")
    for place, config in enumerate(configurations(name)):
        tiny = small(config, root)
        store = DirectoryStore(str(tmp_path / str(place)))
        check(tiny, list(train(tiny, Context(seed=1, checkpoints=store, threads=1, cache_dir=cache))))


def check(config: TrialConfig, epochs: list[EpochMetrics]) -> None:
    """Each stage at its size, with a sound loss, scored by the weights that the file says."""
    settings = config.train
    plan = schedule.stages(settings.progressive, settings.epochs)
    sizes = [schedule.stage_of(plan, epoch).size for epoch in range(1, settings.epochs + 1)]
    assert [metrics.image_size for metrics in epochs] == sizes
    averaged = settings.ema.decay > 0
    for metrics in epochs:
        assert metrics.train_loss is not None
        assert 0 < metrics.train_loss < 12
        assert (metrics.val_accuracy_ema is not None) == averaged
        by_average = settings.score == "ema" or (settings.score == "auto" and averaged)
        assert metrics.val_accuracy == (metrics.val_accuracy_ema if by_average else metrics.val_accuracy_raw)
