"""`hpo confirm --dry-run`: which trainings a confirmation may need, and what they cost by what the trials took."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.cli.display.dry_run import confirm
from hpo.cli.display.dry_run.confirm import forecast, rehearse
from hpo.driver.decisions.rounds import candidates, repeats
from hpo.driver.ray_backend.slots import Slots
from hpo.errors import UsageError
from hpo.home import Home
from hpo.ledger.outcome import Ending
from hpo.ledger.records import StudyRecord, TrialRecord
from tests.support.sample_records import study, trial

FULL_S = 16 * 30.0
"""Seconds of a full training in the sample records: 16 epochs of 30 s."""
CPU, GPU = Slots(1, 0, "cpu", 2), Slots(1, 0.5, "cuda", 4)


def slower(record: TrialRecord, factor: float) -> TrialRecord:
    """The trial with epochs that took `factor` times as long."""
    epochs = tuple(
        dataclasses.replace(epoch, metrics=dataclasses.replace(epoch.metrics, seconds=30.0 * factor))
        for epoch in record.epochs
    )
    return dataclasses.replace(record, epochs=epochs)


SEARCHED = study(
    trial(0, 16, ending=Ending.COMPLETE, enqueued=True, control=True),
    slower(trial(1, 16, ending=Ending.COMPLETE), 3),
    trial(2, 4, ending=Ending.PRUNED),
    trial(3, 16, ending=Ending.COMPLETE),
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home folder, not made, of which everybody reads that it holds the study above; two trials at once."""
    show(monkeypatch, SEARCHED)
    return Home.at(tmp_path / "home")


def show(monkeypatch: pytest.MonkeyPatch, record: StudyRecord, slots: Slots = CPU) -> None:
    monkeypatch.setattr(confirm, "read_study", lambda home, name: record)
    monkeypatch.setattr(confirm, "survey", lambda spec, packing: slots)


def test_every_configuration_and_the_baseline_get_every_seed(place: Home) -> None:
    found = forecast(place, "any", top=2, seeds=3)
    assert [each.number for each in found.trials] == [3, 1, 0]
    assert (len(found.left), len(found.first), found.epochs) == (9, 6, 9 * 16)


def test_the_time_is_that_of_the_trials_themselves(place: Home) -> None:
    found = forecast(place, "any", top=2, seeds=3)
    assert found.took == {0: FULL_S, 1: 3 * FULL_S, 3: FULL_S}
    assert found.worker_seconds == 3 * 5 * FULL_S
    # Two rounds, two at once: two seeds of each (10 times FULL_S), then one of each; none is shorter than its longest.
    assert found.wall_seconds == 5 * FULL_S + 3 * FULL_S


def test_gpu_hours_are_those_that_trainings_hold(place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert forecast(place, "any", top=2, seeds=3).gpu_hours == 0
    show(monkeypatch, SEARCHED, GPU)
    assert forecast(place, "any", top=2, seeds=3).gpu_hours == pytest.approx(15 * FULL_S / 2 / 3600)


def test_trainings_that_are_done_are_not_counted(place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = repeats(SEARCHED, candidates(SEARCHED, 2), 3)
    done = tuple(trial(at, 16, ending=Ending.COMPLETE, repeat=repeat) for at, (repeat, _) in enumerate(wanted[:4]))
    show(monkeypatch, dataclasses.replace(SEARCHED, repeats=done))
    found = forecast(place, "any", top=2, seeds=3)
    assert (len(found.left), len(found.first)) == (5, 2)
    show(monkeypatch, dataclasses.replace(SEARCHED, repeats=(*done, *(
        trial(4 + at, 16, ending=Ending.COMPLETE, repeat=repeat) for at, (repeat, _) in enumerate(wanted[4:])
    ))))  # fmt: skip
    text = "\n".join(map(str, rehearse(forecast(place, "any", top=2, seeds=3), place, "confirm any", None)))
    assert "Nothing is left to train" in text


def test_a_baseline_that_never_ended_is_taken_to_last_as_long_as_the_others(place: Home) -> None:
    cut = study(trial(0, 3, enqueued=True), trial(1, 16, ending=Ending.COMPLETE))
    assert confirm.durations(cut, cut.trials) == {0: FULL_S, 1: FULL_S}
    assert confirm.durations(study(trial(0, 3)), cut.trials) == {}


def test_the_disk_holds_a_checkpoint_of_each_training(place: Home) -> None:
    assert forecast(place, "any", top=2, seeds=3).disk_bytes is None
    folder = Path(place.checkpoints(SEARCHED.name)) / "00003"
    folder.mkdir(parents=True)
    (folder / "epoch").write_bytes(b"x" * 1000)
    assert forecast(place, "any", top=2, seeds=3).disk_bytes == (9 + 2 * 2) * 1000


def test_a_narrow_terminal_says_what_it_does_not_show(place: Home) -> None:
    found = forecast(place, "any", top=2, seeds=3)
    wide = [str(line) for line in rehearse(found, place, "confirm any", None)]
    narrow = [str(line) for line in rehearse(found, place, "confirm any", 60)]
    assert not any("not shown" in line for line in wide)
    assert "not shown, because the terminal is too narrow: dropout.end, randaugment.end, stages" in "\n".join(narrow)
    assert max(len(line) for line in narrow if line.strip().startswith(("3 ", "1 ", "0 (", "trial"))) <= 60


def test_the_command_prints_the_plan_and_writes_nothing(place: Home) -> None:
    arguments = ["confirm", "any", "--dry-run", "--top", "2", "--home", str(place.path)]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.exception
    assert "trainings  9 at most, 16 epochs each: 144 epochs" in shown.stdout
    assert "time       1:04:00 at most, 2 at once on cpu" in shown.stdout
    assert "GPU-hours  0, on the CPU" in shown.stdout
    assert f"Begin with: {place.command('confirm any --top 2 --seeds 3')}" in shown.stdout
    told = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert (told["trainings"], told["next_round"], told["seconds"]) == (9, 6, 8 * FULL_S)
    assert [entry["baseline"] for entry in told["configurations"]] == [False, False, True]
    assert not place.path.exists()


def test_a_person_hears_that_fewer_configurations_are_complete_than_were_asked_for(
    place: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = [str(line) for line in rehearse(forecast(place, "any", top=5, seeds=2), place, "confirm any", None)]
    assert "cifar10_b0 has 3 different complete configurations, not 5: all of them are trained again" in shown
    show(monkeypatch, study(trial(0, 16, ending=Ending.COMPLETE, enqueued=True)))
    shown = [str(line) for line in rehearse(forecast(place, "any", top=5, seeds=3), place, "confirm any", None)]
    assert shown[:2] == [
        "Confirmation of cifar10_b0: 1 configuration",
        "cifar10_b0 has 1 complete configuration, not 5: it alone is trained again",
    ]
    assert "           2 first; the race may save the last one" in shown


@pytest.mark.parametrize(("top", "seeds"), [(0, 3), (2, 1)])
def test_counts_that_make_no_confirmation_are_refused_as_without_the_option(place: Home, top: int, seeds: int) -> None:
    with pytest.raises(UsageError, match="at least"):
        forecast(place, "any", top, seeds)
