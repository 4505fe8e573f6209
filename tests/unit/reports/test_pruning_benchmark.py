"""The benchmark of rungs trains what it draws, and says only what is whole."""

import dataclasses
import json
import subprocess
import sys
import time
from collections import Counter

import pytest

from reports.benchmarks.pruning import analysis
from reports.benchmarks.pruning import benchmark as rungs
from reports.benchmarks.pruning import collect as rungs_collect

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


def test_collecting_learning_curves_imports_no_orchestrator() -> None:
    heavy = "{'ray', 'optuna', 'mlflow', 'hpo', 'pydantic'} & set(sys.modules)"
    code = f"import reports.benchmarks.pruning.benchmark, sys\nprint({heavy})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_drawn_configurations_cover_the_space_and_are_valid() -> None:
    drawn = rungs_collect.draw(SETTINGS)
    assert drawn[:5] == rungs_collect.draw(dataclasses.replace(SETTINGS, configurations=5))
    assert drawn != rungs_collect.draw(dataclasses.replace(SETTINGS, seed=1))
    assert set(Counter(values["stages"] for values in drawn)) == {1, 2, 3, 4}
    assert {values["size_start"] for values in drawn} == {16, 24, 32}
    for values in drawn:
        train = SETTINGS.config(values).train
        assert 1e-4 <= train.lr <= 1e-2
        assert train.eval_size == 32


def test_a_collected_training_has_every_epoch_or_is_left_out(tmp_path) -> None:
    settings = dataclasses.replace(SETTINGS, cache_dir=str(tmp_path))
    values = rungs_collect.draw(settings)[0]
    done = rungs_collect._train(settings, 0, values, None)
    assert done is not None
    assert [epoch["epoch"] for epoch in done["epochs"]] == [1, 2, 3, 4]
    assert all(epoch[key] is not None for epoch in done["epochs"] for key in rungs_collect.KEPT)
    assert json.loads(json.dumps(done)) == done
    assert rungs_collect._train(settings, 0, values, time.monotonic() - 1) is None


@pytest.mark.parametrize(("device", "epochs"), [("cpu", 9), ("cuda:0", 14)])
def test_the_defaults_of_collect_depend_on_the_device(device, epochs) -> None:
    options = rungs._options(["collect", "--json", "x.json", "--device", device])
    assert options.epochs == epochs
    assert options.threads >= 1


def record(number: int, early: float, late: float) -> dict:
    """Two stages of two epochs, the first at half the size; averages lag behind."""
    values = [early, early, late, late]
    epochs = [
        {
            "epoch": epoch,
            "compute": [0.25, 0.5, 1.5, 2.5][epoch - 1],
            "stage": (epoch - 1) // 2,
            "val_accuracy_raw": value + 0.001 * epoch,
            "val_accuracy_ema": 0.5 * value + 0.001 * epoch,
            "seconds": 1.0,
        }
        for epoch, value in enumerate(values, start=1)
    ]
    return {"number": number, "failure": None, "epochs": epochs}


def test_values_at_rungs_are_taken_from_the_epoch_that_the_setting_gives() -> None:
    failed = {"number": 9, "failure": "Diverged", "epochs": []}
    curves = analysis.curves({"configurations": [record(0, 0.1, 0.2), record(1, 0.2, 0.4), failed]})
    assert [curve.stage_ends for curve in curves] == [(2, 4), (2, 4)]
    by_epoch = analysis.rungs(curves, analysis.REFERENCE, 1, 2)
    assert [(rung.level, rung.reached) for rung in by_epoch] == [(1, 2), (2, 2)]
    assert by_epoch[0].early == pytest.approx([0.101, 0.201])
    assert by_epoch[1].compute_share == pytest.approx(0.2)
    assert by_epoch[1].seconds_share == pytest.approx(0.5)
    by_compute = analysis.rungs(curves, analysis.Setting("compute", "none", "ema"), 1, 2)
    assert by_compute[0].early == pytest.approx([0.103, 0.203])
    assert by_compute[1].reached == 0, "at 2 both are at their end"
    assert by_compute[0].tau().value == 1
    assert by_compute[0].retention(2).value == pytest.approx(0.75)


def test_a_setting_that_ranks_worse_differs_from_the_reference() -> None:
    """Early values of averages rank backwards here."""
    records = [record(number, 0.1 + number / 100, 0.5 + number / 100) for number in range(20)]
    for configuration in records:
        for epoch in configuration["epochs"][:3]:
            epoch["val_accuracy_ema"] = -epoch["val_accuracy_raw"]
    comparisons = {
        comparison.setting: comparison
        for comparison in analysis.compare(analysis.curves({"configurations": records}), 1, 2)
    }
    worse = comparisons[analysis.Setting("epochs", "none", "ema")]
    assert comparisons[analysis.REFERENCE].mean_tau.value == pytest.approx(1)
    assert worse.mean_tau.value == pytest.approx(-1)
    assert worse.difference.high < 0
    assert comparisons[analysis.REFERENCE].difference.value == 0


def test_the_results_about_rungs_are_written_with_their_conditions(tmp_path) -> None:
    settings = dataclasses.asdict(SETTINGS)
    report = {
        "environment": {"gpu": "a GPU", "processor": "x", "cores": 2, "python": "3", "torch": "2", "timm": "1"},
        "settings": settings,
        "configurations": [record(number, 0.1 * number, 0.2 * number) for number in range(4)],
        "unfinished": 3,
        "seconds": 12.0,
    }
    source = tmp_path / "found.json"
    source.write_text(json.dumps(report))
    assert rungs.main(["analyse", str(source)]) == 0
    text = (tmp_path / "found.md").read_text()
    assert "4 configurations of test_efficientnet" in text
    assert "Measured on a GPU" in text
    assert "3 were not finished" in text
    assert "Too few configurations for a conclusion: 4" in text
    assert (tmp_path / "found.png").stat().st_size > 10_000
    (tmp_path / "found.md").write_text(text + "\n## Conclusions\n\nBy hand.\n")
    assert rungs.main(["analyse", str(source)]) == 0
    assert (tmp_path / "found.md").read_text() == text + "\n## Conclusions\n\nBy hand.\n"
