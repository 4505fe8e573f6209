"""Trainings small enough for tests: one with every moving part in it, and a study of two."""

from __future__ import annotations

from pathlib import Path

from trainers.api import (
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
            mixup=RateRamp(start=0.1, end=0.3),
        ),
    ),
)
"""Stages, mixup, averaged weights; test_efficientnet is timm's own miniature (0.4 million parameters)."""


def context(cache: str, checkpoints: Path, seed: int = 0) -> Context:
    """One CPU thread, so that sums have one order."""
    return Context(seed=seed, checkpoints=DirectoryStore(str(checkpoints)), threads=1, cache_dir=cache)


def tiny_study(name: str) -> str:
    """A specification as YAML: a real EfficientNetV2 on a few of the generated shapes, for seconds."""
    return f"""\
study: {name}
data: {{name: shapes, train_limit: 64, validation_limit: 40}}
model: {{name: tf_efficientnetv2_b0, pretrained: false}}
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
