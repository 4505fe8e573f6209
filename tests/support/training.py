"""Trainings that are small enough for tests: a training that uses all parts, and a study of two trials."""

from __future__ import annotations

from pathlib import Path

from trainers.api import (
    AlphaRamp,
    Context,
    DataConfig,
    Ema,
    MagnitudeRamp,
    ModelConfig,
    Progressive,
    RateRamp,
    TrainConfig,
    TrialConfig,
)
from trainers.checkpoint import DirectoryStore

TINY = TrialConfig(
    data=DataConfig(name="shapes", train_limit=160, validation_limit=60),
    model=ModelConfig(name="test_efficientnet", pretrained=False, drop_path=0.1),
    train=TrainConfig(
        epochs=4,
        batch_size=40,
        lr=2e-3,
        warmup_epochs=0.5,
        eval_batch_size=50,
        ema=Ema(decay=0.9),
        progressive=Progressive(
            stages=2,
            sizes=(32, 48),
            randaugment=MagnitudeRamp(start=3, end=6),
            dropout=RateRamp(start=0.1, end=0.3),
            mixup=AlphaRamp(start=0.1, end=0.3),
        ),
    ),
)
"""A training with stages, mixup and averaged weights. timm's test_efficientnet has 0.4 million parameters."""


def context(cache: str, checkpoints: Path, seed: int = 0) -> Context:
    """Return a context with one CPU thread, so that sums are always in the same order."""
    return Context(seed=seed, checkpoints=DirectoryStore(str(checkpoints)), threads=1, cache_dir=cache)


def tiny_study(name: str, model: str = "test_efficientnet") -> str:
    """Return a specification as YAML: two trials of a few steps on generated shapes.

    A real EfficientNetV2 as `model` takes four times as long, most of it when its export is written and loaded back.
    """
    return f"""\
study: {name}
data: {{name: shapes, train_limit: 64, validation_limit: 40}}
model: {{name: {model}, pretrained: false}}
train:
  epochs: 2
  batch_size: 16
  progressive: {{stages: 2, size: {{start: 16, end: 32}}, randaugment: {{start: 0, end: 5}}}}
space:
  train.lr: {{type: float, low: 1e-4, high: 1e-2, log: true}}
enqueue:
  - {{train.lr: 1e-3}}
budget: {{trials: 2}}
"""
