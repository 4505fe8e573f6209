"""The final training: everything but the test split to train on, one look at it, a model that timm loads."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F

from tests.support.training import TINY, context
from trainers import data, retrain
from trainers.api import DataConfig, EpochMetrics
from trainers.augment import prepare
from trainers.checkpoint import DirectoryStore


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, cache: str) -> tuple[retrain.RetrainResult, list[EpochMetrics]]:
    folder = tmp_path_factory.mktemp("retrain")
    epochs: list[EpochMetrics] = []
    where = context(cache, folder / "checkpoints")
    return retrain.retrain(TINY, where, seed=3, output_dir=folder, on_epoch=epochs.append), epochs


def test_retraining_uses_training_and_validation_images_together(result: tuple, cache: str) -> None:
    finished, epochs = result
    parts = data.train_and_validation(TINY.data, cache, "cpu")
    assert finished.train_images == sum(map(len, parts))
    assert [metrics.epoch for metrics in epochs] == [1, 2, 3, 4]
    assert finished.test_images == 2_000


def test_timm_loads_the_retrained_model_with_the_same_accuracy(result: tuple, cache: str) -> None:
    finished, _ = result
    net = timm.create_model(f"local-dir:{finished.weights.parent}", pretrained=True).eval()
    settings = timm.data.resolve_model_data_config(net)
    assert tuple(settings["input_size"]) == (3, 48, 48)
    test = data.open_test_split(TINY.data, cache, "cpu")
    pixels = prepare(test.images, size=48, mean=settings["mean"], std=settings["std"])
    with torch.inference_mode():
        logits = torch.cat([net(batch) for batch in pixels.split(500)])
    assert (logits.argmax(1) == test.labels).float().mean().item() == pytest.approx(finished.test_accuracy, abs=2e-3)
    assert F.cross_entropy(logits, test.labels).item() == pytest.approx(finished.test_loss, rel=1e-4)


def test_the_written_metrics_of_a_retraining_equal_the_returned_metrics(result: tuple) -> None:
    finished, _ = result
    written = json.loads((finished.weights.parent / "metrics.json").read_text())
    assert written["test_accuracy"] == finished.test_accuracy
    assert len(written["history"]) == 4
    config = json.loads((finished.weights.parent / "config.json").read_text())
    assert config["label_names"][:2] == ["disc", "square"]
    assert config["num_classes"] == 10


def test_an_interrupted_retraining_continues_to_the_same_model(result: tuple, tmp_path: Path, cache: str) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(metrics: EpochMetrics) -> None:
        if metrics.epoch == 3:
            raise Interrupted

    finished, _ = result
    where = context(cache, tmp_path / "checkpoints")
    with pytest.raises(Interrupted):
        retrain.retrain(TINY, where, seed=3, output_dir=tmp_path, on_epoch=interrupt)
    assert not (tmp_path / "model.safetensors").exists()
    again = retrain.retrain(TINY, where, seed=3, output_dir=tmp_path)
    assert again.weights.read_bytes() == finished.weights.read_bytes()
    assert again.test_accuracy == finished.test_accuracy


def test_a_retraining_on_real_cifar10_runs_end_to_end(cifar_root: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, data=DataConfig(root=str(cifar_root), train_limit=128, validation_limit=64))
    where = dataclasses.replace(
        context(str(tmp_path / "cache"), tmp_path), checkpoints=DirectoryStore(str(tmp_path / "checkpoints"))
    )
    finished = retrain.retrain(config, where, seed=0, output_dir=tmp_path)
    assert finished.test_images == 10_000
    assert 0 < finished.test_accuracy < 1
