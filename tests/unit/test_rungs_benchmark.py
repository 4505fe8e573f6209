"""The benchmark of rungs trains what it draws, and says only what is whole."""

import dataclasses
import json
import subprocess
import sys
import time
from collections import Counter

import pytest

from reports.benchmarks import rungs, rungs_collect

SETTINGS = rungs_collect.Settings(
    data="shapes",
    root="unused",
    train_images=64,
    validation_images=32,
    model="test_efficientnet",
    bn_momentum=0.1,
    epochs=4,
    batch_size=16,
    weight_decay=0.01,
    warmup_epochs=0,
    ema_decay=0.9,
    size_start=16,
    size_end=32,
    size_step=8,
    lr_low=1e-4,
    lr_high=1e-2,
    dropout=0.5,
    randaugment=15,
    configurations=24,
    seed=0,
    jobs=1,
    threads=1,
    device="cpu",
    seconds_limit=None,
    cache_dir="unused",
)


def test_collecting_needs_no_orchestrator() -> None:
    code = (
        "import reports.benchmarks.rungs, sys; print({'ray', 'optuna', 'mlflow', 'hpo', 'pydantic'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_configurations_cover_the_space_and_are_valid() -> None:
    drawn = rungs_collect.draw(SETTINGS)
    assert drawn[:5] == rungs_collect.draw(dataclasses.replace(SETTINGS, configurations=5))
    assert drawn != rungs_collect.draw(dataclasses.replace(SETTINGS, seed=1))
    assert set(Counter(values["stages"] for values in drawn)) == {1, 2, 3, 4}
    assert {values["size_start"] for values in drawn} == {16, 24, 32}
    for values in drawn:
        train = SETTINGS.config(values).train
        assert 1e-4 <= train.lr <= 1e-2
        assert train.eval_size == 32


def test_a_training_leaves_every_epoch_or_nothing(tmp_path) -> None:
    settings = dataclasses.replace(SETTINGS, cache_dir=str(tmp_path))
    values = rungs_collect.draw(settings)[0]
    done = rungs_collect._train(settings, 0, values, None)
    assert done is not None
    assert [epoch["epoch"] for epoch in done["epochs"]] == [1, 2, 3, 4]
    assert all(epoch[key] is not None for epoch in done["epochs"] for key in rungs_collect.KEPT)
    assert json.loads(json.dumps(done)) == done
    assert rungs_collect._train(settings, 0, values, time.time() - 1) is None


@pytest.mark.parametrize(("device", "epochs"), [("cpu", 9), ("cuda:0", 14)])
def test_defaults_are_the_devices(device, epochs) -> None:
    options = rungs._options(["collect", "--json", "x.json", "--device", device])
    assert options.epochs == epochs
    assert options.threads >= 1
