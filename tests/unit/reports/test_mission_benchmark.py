"""The benchmark on recorded fine-tunings, with an invented table; no network is trained."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpo.spec.study import Spec
from reports.benchmarks.alone import alone
from reports.benchmarks.mission import agreement, comparison, curves
from reports.benchmarks.mission.pool import FreeRows, PoolSearch, Scale, simulate, varied
from reports.benchmarks.mission.table import Row, Table, read, write

EPOCHS = 4
SPEC = Spec.model_validate(
    {
        "study": "invented",
        "data": {"name": "cifar10", "train_limit": 100},
        "train": {"epochs": EPOCHS, "progressive": {"size": {"start": 32, "end": 64}}},
        "space": {
            "train.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
            "train.augment.randaugment_layers": {"type": "int", "low": 0, "high": 2},
            "train.progressive.randaugment.end": {
                "type": "float",
                "low": 5,
                "high": 15,
                "when": {"train.augment.randaugment_layers": {"ge": 1}},
            },
            "train.progressive.stages": {"type": "int", "low": 1, "high": 4},
        },
        "asha": {"reduction_factor": 3, "grace_period": 1},
        "seed": 1,
    }
)


def row(number: int, values: dict[str, Any]) -> Row:
    """The accuracy has its peak at a learning rate of 1e-3; all curves rise in the same way."""
    height = 0.9 - 0.2 * abs(math.log10(values["train.lr"]) + 3)
    sizes = [64] * EPOCHS if values["train.progressive.stages"] == 1 else [32, 32, 64, 64]
    return Row(
        study="invented",
        number=number,
        seed=number,
        values=values,
        val_accuracy=[round(height * share, 5) for share in (0.7, 0.8, 0.9, 1.0)],
        val_loss=[1.0] * EPOCHS,
        image_size=sizes,
        images=[100] * EPOCHS,
        cpu_seconds=[1.0] * EPOCHS,
    )


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [row(number, values) for number, values in enumerate(curves.draw(SPEC, 32, 0))]


def table(rows: list[Row]) -> Table:
    return Table({"torch": "1"}, 0, {"invented": SPEC}, tuple(rows))


def test_a_larger_table_begins_with_the_rows_of_a_smaller_one() -> None:
    few, many = curves.draw(SPEC, 8, 0), curves.draw(SPEC, 50, 0)
    assert many[:8] == few
    assert curves.draw(SPEC, 8, 1) != few


def test_configurations_of_a_table_follow_the_conditions_of_the_space(rows: list[Row]) -> None:
    for one in rows:
        layers = one.values["train.augment.randaugment_layers"]
        assert ("train.progressive.randaugment.end" in one.values) == (layers >= 1)
    assert {one.values["train.progressive.stages"] for one in rows} == {1, 2, 3, 4}


def test_a_table_comes_back_from_its_file_with_one_row_a_line(rows: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "curves.json"
    write(path, table(rows[::-1]))
    assert read(path) == table(rows)
    assert sum(line.startswith('{"study"') for line in path.read_text().splitlines()) == len(rows)


def test_an_interrupted_table_is_continued_without_making_a_row_twice(
    rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made, cancelled = tmp_path / "curves.json", [], []

    class Pool:
        """In place of processes."""

        def __init__(self, *arguments: Any, **named: Any) -> None: ...

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *error: object) -> None: ...

        def submit(self, function: Any, study: str, number: int, *arguments: Any) -> Row:
            made.append(number)
            return rows[number]

        def shutdown(self, **named: Any) -> None:
            cancelled.append(named)

    class Done:
        def __init__(self, row: Row) -> None:
            self.row = row

        def result(self) -> Row:
            if self.row.number == 6:
                raise KeyboardInterrupt
            return self.row

    monkeypatch.setattr(curves, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(curves, "as_completed", lambda futures: map(Done, futures))
    monkeypatch.setattr(curves.data, "prepare", lambda *arguments: None)
    write(path, table(rows[:3]))
    options = argparse.Namespace(out=path, rows=5, data="d", weights="w.safetensors", cache_dir="c", workers=1)
    curves.collect(read(path), options)
    assert made == [3, 4]
    assert read(path) == table(rows[:5])
    with pytest.raises(KeyboardInterrupt):
        curves.collect(read(path), argparse.Namespace(**{**vars(options), "rows": 9}))
    assert read(path) == table(rows[:6]), "a stopped command leaves what it had"
    assert cancelled == [{"wait": False, "cancel_futures": True}], "and waits for no other row"


def test_two_commands_cannot_make_one_table(tmp_path: Path) -> None:
    path = tmp_path / "curves.json"
    with alone(path), pytest.raises(SystemExit, match="another process"), alone(path):
        pass


def test_a_new_table_names_no_place_of_its_files() -> None:
    options = curves._parser().parse_args(
        ["--data", "/somewhere", "--weights", "/somewhere/w.safetensors", "--out", "o"]
    )
    studies = curves.begin(options).studies
    assert list(studies) == ["cifar10_cpu", "cifar100_cpu"]
    for spec in studies.values():
        assert "/somewhere" not in spec.to_json()
        assert spec.model.pretrained == "w.safetensors"
        assert (spec.model.name, spec.data.train_limit) == ("tf_efficientnet_lite0", 2000)


def test_a_free_row_can_be_taken_once(rows: list[Row]) -> None:
    free = FreeRows(SPEC, rows)
    wanted = free.encode([rows[7].values])[0]
    assert free.take(wanted) == 7
    assert free.take(wanted) != 7
    points = free.settle(np.random.default_rng(0).random((200, len(free))))
    taken = free.keys(free.encode([rows[7].values]))[0]
    assert taken not in free.keys(points)
    assert set(free.keys(points)) <= set(free.keys(free.encode([one.values for one in rows])))


@pytest.mark.parametrize("policy", ["random", "tpe", "gp"])
@pytest.mark.parametrize("restricted", [True, False])
def test_a_search_in_a_pool_tries_every_row_once_if_the_budget_allows(
    rows: list[Row], policy: str, restricted: bool
) -> None:
    search = PoolSearch(varied(SPEC, 0, {"search": {"policy": policy}}), rows, restricted=restricted)
    run = simulate(rows, search, full_trainings=100)
    assert run.trials == len(rows)
    assert run.known.regret_at(1.0) == 0.0


def test_rows_that_are_stopped_cost_the_epochs_that_they_ran(rows: list[Row]) -> None:
    runs = {
        enabled: simulate(rows, PoolSearch(varied(SPEC, 0, {"asha": {"enabled": enabled}}), rows), 4)
        for enabled in (True, False)
    }
    assert runs[True].trials > 1.5 * runs[False].trials
    full = Scale.of(rows).full_training
    assert full == np.mean([one.compute[-1] for one in rows])
    assert runs[False].delivered.times.min() >= min(one.compute[-1] for one in rows) / (4 * full / 2)


def test_a_pool_of_one_peak_shows_that_gp_beats_random() -> None:
    pool = [row(number, values) for number, values in enumerate(curves.draw(SPEC, 128, 0))]

    def regret(policy: str) -> float:
        runs = (PoolSearch(varied(SPEC, seed, {"search": {"policy": policy}}), pool) for seed in range(5))
        return float(np.mean([simulate(pool, search, 8).known.regret_at(1.0) for search in runs]))

    assert regret("gp") < regret("random")


def test_the_page_gives_both_columns_paired_differences_and_the_number_of_rows(
    rows: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "curves.json", table(rows))
    figures = tmp_path / "mission.json"
    words = [str(tmp_path / "curves.json"), "--seeds", "2", "--full-trainings", "4", "--json", str(figures)]
    assert comparison.main([*words, "--variants", "random", "gp"]) == 0
    text = figures.with_suffix(".md").read_text()
    assert "32 rows of invented; 0 failed." in text
    assert "The table is not complete: 96 rows are planned." in text
    assert "| delivered: the best complete trial | 20% | 50% | 100% | 20%, minus gp" in text
    assert figures.with_suffix(".png").stat().st_size > 1000
    content = json.loads(figures.read_text())
    regrets = content["regrets"]["invented"]
    runs = {name: [run["known"][-1] for run in content["runs"][name]["invented"]] for name in ("random", "gp")}
    difference = np.subtract(runs["random"], runs["gp"])
    assert regrets["random"]["known"]["minus_reference"][-1]["mean"] == pytest.approx(difference.mean(), abs=1e-4)
    assert regrets["gp"]["known"]["minus_reference"] == []
    assert comparison.main([*words[:1], "--variants", "random", "--seeds", "1", "--least-rows", "1"]) == 0
    with pytest.raises(SystemExit, match="fewer than 33 complete rows"):
        comparison.main([*words[:1], "--least-rows", "33"])


def test_rungs_of_curves_that_rise_alike_agree_with_the_end(rows: list[Row]) -> None:
    text = "\n".join(agreement.lines(SPEC, rows))
    assert "| 1 | 1.00 [1.00, 1.00] |" in text
    assert "| epochs | at the rung | 1 |" in text
    assert rows[0].stage_ends[-1] == EPOCHS
