"""`hpo status` of a study that no screen can show whole."""

import dataclasses
import json
from pathlib import Path

import pytest

from hpo.cli.display import status
from hpo.cli.display.status import MOST_FAILURES, MOST_ROWS, show_study, study_json
from hpo.home import Home
from hpo.ledger.outcome import Ending
from hpo.ledger.records import StudyRecord
from tests.support.sample_records import study, trial

TRIALS = 1_000


@pytest.fixture
def large() -> StudyRecord:
    """The baseline and the best trial are among the first; every tenth trial fails."""
    reason = "OutOfMemory: out of device memory"
    return study(
        trial(0, 16, ending=Ending.COMPLETE, enqueued=True, control=True),
        trial(1, 16, ending=Ending.COMPLETE),
        *(
            trial(n, 0, ending=Ending.FAILED, reason=reason) if n % 10 == 5 else trial(n, 1, ending=Ending.PRUNED)
            for n in range(2, TRIALS)
        ),
    )


def shown(large: StudyRecord, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(status, "read_study", lambda home, name: large)
    show_study(Home(home), large.name, as_json=False)
    return capsys.readouterr().out


def test_a_large_study_is_shown_by_its_best_its_baseline_and_its_newest_trials(large, tmp_path, monkeypatch, capsys):
    text = shown(large, tmp_path, monkeypatch, capsys)
    rows = [
        line.split() for line in text.splitlines() if " pruned " in line or " complete " in line or " failed " in line
    ]
    numbers = [int(row[0]) for row in rows if row[0].isdigit()]
    assert len(numbers) == MOST_ROWS
    assert numbers == sorted(numbers)
    assert {0, 1, TRIALS - 1, TRIALS - 2} <= set(numbers)
    assert f"shows {MOST_ROWS} of 1,000 trials" in text


def test_a_study_that_fits_is_shown_whole_and_without_a_remark(tmp_path, monkeypatch, capsys):
    small = study(*(trial(number, 16, ending=Ending.COMPLETE) for number in range(MOST_ROWS)))
    text = shown(small, tmp_path, monkeypatch, capsys)
    assert sum(" complete " in line for line in text.splitlines()) >= MOST_ROWS
    assert "This table shows" not in text


def test_many_failures_take_a_line_per_reason(large, tmp_path, monkeypatch, capsys):
    text = shown(large, tmp_path, monkeypatch, capsys)
    assert "100 failed, the last is trial 995: OutOfMemory: out of device memory" in text
    assert text.count("OutOfMemory") == 1


def test_few_failures_take_a_line_each(tmp_path, monkeypatch, capsys):
    failed = study(*(trial(n, 0, ending=Ending.FAILED, reason="Diverged: nan") for n in range(MOST_FAILURES)))
    assert shown(failed, tmp_path, monkeypatch, capsys).count("failed: Diverged: nan") == MOST_FAILURES


def test_programs_get_every_trial(large, tmp_path):
    assert len(json.loads(json.dumps(study_json(large, Home(tmp_path))))["trials"]) == TRIALS


def test_status_says_how_far_mlflow_is_behind_and_who_writes_the_rest(tmp_path, monkeypatch, capsys):
    trials = [trial(n, 4, ending=Ending.PRUNED, mlflow_run_id=None if n < 12 else f"run-{n}") for n in range(20)]
    home = Home(tmp_path)
    ended, driven = study(*trials), dataclasses.replace(study(*trials), driver="open")
    said = shown(ended, tmp_path, monkeypatch, capsys)
    assert f"MLflow is 12 trials behind; write the rest with: hpo doctor cifar10_b0{home.option}" in said
    assert "MLflow is 12 trials behind\n" in shown(driven, tmp_path, monkeypatch, capsys)
    assert study_json(ended, home)["mlflow_behind"] == 12
    few = dataclasses.replace(driven, trials=tuple(trials[4:]))
    assert "MLflow" not in shown(few, tmp_path, monkeypatch, capsys)
