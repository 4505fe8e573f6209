"""A training small enough for tests, with every moving part in it: stages, mixup, averaged weights."""

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
"""test_efficientnet is timm's own miniature (0.4 million parameters)."""


def context(cache: str, checkpoints: Path, seed: int = 0) -> Context:
    """One CPU thread, so that sums have one order."""
    return Context(seed=seed, checkpoints=DirectoryStore(str(checkpoints)), threads=1, cache_dir=cache)
