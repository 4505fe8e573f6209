"""The training benchmark measures what it says and says what it measured."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from reports.benchmarks.training import benchmark as training
from reports.benchmarks.training import busy_cores
from reports.benchmarks.training.contenders import Case
from reports.benchmarks.training.memory import peak
from reports.benchmarks.training.turnaround import Turnaround
from trainers.api import DataConfig
from trainers.loop import cores

CASE = Case(
    model="test_efficientnet",
    size=32,
    device="cpu",
    batch=4,
    steps=2,
    threads=1,
    workers=1,
    source=DataConfig(name="shapes"),
    cache_dir="unused",
)


def row(**rates: list[float]) -> training.Row:
    return training.Row(CASE, rates, dict.fromkeys(rates, 3 * 2**20))


def test_the_training_benchmark_imports_no_orchestrator() -> None:
    code = "import reports.benchmarks.training.benchmark, sys\n"
    code += "print({'ray', 'optuna', 'mlflow', 'hpo'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_speed_ratios_are_computed_within_a_round() -> None:
    measured = row(limit=[100, 10, 100], engine=[90, 9, 90], averaged=[80, 8, 80], peer=[45, 3, 30])
    assert measured.median("engine") == 90
    assert measured.ratio("engine", "limit") == pytest.approx(0.9)
    assert measured.ratio("engine", "peer") == pytest.approx(3)


def test_the_speed_table_shows_ratios_memory_and_what_was_not_measured() -> None:
    measured = row(limit=[100.0], engine=[95.0], averaged=[90.0], peer=[50.0])
    text = training.table([measured], Turnaround((0.2,), (0.1,), (8.0,)), [("cuda", "tf_efficientnetv2_s", 300)])
    assert "| engine | 95.0 | 95.0 to 95.0 | 0.950 | 1.90 | 3 MiB |" in text
    assert "| cuda | tf_efficientnetv2_s | 300 | not measured |" in text
    assert "8.00 s (40 times as long)" in text


def test_peak_memory_includes_memory_that_was_freed_again() -> None:
    with peak("cpu") as before:
        pass
    with peak("cpu") as after:
        bytearray(200 * 2**20)
    low, high = before(), after()
    if low is None or high is None:
        pytest.skip("this system does not let a process set back its high-water mark")
    assert high - low > 150 * 2**20


def test_the_training_benchmark_writes_every_measurement(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "figures.json"
    training.main(
        f"--repeats 1 --sizes 32 --model test_efficientnet --batch 8 --steps 2 --threads 1 --workers 1 --device cpu "
        f"--no-turnaround --cache-dir {tmp_path} --json {file}".split()
    )
    printed = capsys.readouterr().out
    assert file.with_suffix(".md").read_text() == printed
    report = json.loads(file.read_text())
    (measured,) = report["rows"]
    assert set(measured["images_per_second"]) == {"limit", "engine", "engine, EMA", "peer"}
    assert all(len(rates) == 1 and rates[0] > 0 for rates in measured["images_per_second"].values())
    assert measured["of_the_limit"]["limit"] == 1
    assert len(report["not_measured"]) == 6
    assert report["environment"]["torch"]


def test_the_benchmark_of_busy_cores_trains_in_turns_and_writes_its_page(tmp_path: Path) -> None:
    found = tmp_path / "busy.json"
    few = ["--model", "test_efficientnet", "--size", "32", "--steps", "2", "--repeats", "2", "--busy", "0", "1"]
    assert busy_cores.main([*few, "--json", str(found)]) == 0
    rates = json.loads(found.read_text())["images_per_second"]
    assert {name: len(values) for name, values in rates["1"].items()} == {"fixed": 2, "adapted": 2}
    page = found.with_suffix(".md").read_text()
    assert "| busy programs | fixed, images/s |" in page
    assert cores.LOOK_S < 60


def test_the_ratio_of_busy_cores_is_that_of_neighbours() -> None:
    text = busy_cores.table({1: {"fixed": [100.0, 10.0, 50.0], "adapted": [200.0, 20.0, 100.0]}})
    assert text.endswith("| 1 | 50.0 | 100.0 | 2.00 |")
