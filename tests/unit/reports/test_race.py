"""The race of whole studies: what is measured of a study, and the page."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hpo.validation.loader import load_spec
from reports.benchmarks.race import command
from reports.benchmarks.race.course import Course, Epoch, Finish
from reports.benchmarks.race.studies import specification

COURSE = Course(
    model="test_efficientnet",
    size=32,
    images=64,
    epochs=2,
    trials=3,
    batch=16,
    data="shapes",
    root="data",
    cache_dir="cache",
)
OURS = Finish("hpo", 40.0, (Epoch("0", 1, 8.0, 14.0, 64, 0.3), Epoch("1", 1, 9.0, 15.0, 64, 0.6)))
BY_HAND = Finish("by hand", 100.0, (Epoch("a", 1, 20.0, 50.0, 64, 0.5), Epoch("a", 2, 50.0, 90.0, 64, 0.4)))
RACE = command.Race({}, COURSE, (5.0, 4.0, 3.0), (OURS, BY_HAND))


def test_a_finish_counts_all_of_a_study() -> None:
    assert (OURS.rate, OURS.under_way, OURS.best) == (3.2, 8.0, 0.6)
    assert (OURS.reached(0.5), OURS.reached(0.3), OURS.reached(0.7)) == (15.0, 14.0, None)


def test_the_table_compares_with_the_limit_and_with_the_best_by_hand() -> None:
    ours, by_hand = command.table(RACE).splitlines()[2:]
    assert ours == "| hpo | 40 | 8.0 s | 2 | 3 | 0.80 | 60.0% | 15 s |"
    assert by_hand == "| by hand | 100 | 20.0 s | 2 | 1 | 0.32 | 50.0% | 50 s |"
    slower = replace(OURS, epochs=OURS.epochs[:1])
    assert "not reached" in command.table(replace(RACE, finishes=(slower, BY_HAND)))


def test_the_page_can_be_written_again_from_the_file(tmp_path: Path) -> None:
    stored = tmp_path / "race.json"
    stored.write_text(json.dumps(asdict(RACE)))
    assert command.main(["--json", str(stored), "--page-only"]) == 0
    assert stored.with_suffix(".md").read_text() == command.page(RACE)
    assert json.loads(stored.read_text()) == json.loads(json.dumps(asdict(RACE)))


def test_the_study_of_this_tool_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text(json.dumps(specification(COURSE)))
    spec = load_spec(str(file), [])
    assert (spec.budget.trials, spec.base().train.progressive.size.end, len(spec.space)) == (3, 32, 3)


def test_images_that_are_missing_are_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--root", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: cifar10: ")
    assert "is missing" in line
