"""What a terminal shows of a study: the screen at any size, plain lines, tables, and which view is chosen."""

from __future__ import annotations

import dataclasses
import io
import re
import time
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from hpo.api.plain_view import PlainView
from hpo.cli.display.live import PlainConsole, console_view
from hpo.cli.display.plain import closing
from hpo.cli.display.screen import Screen
from hpo.cli.display.status import _trials
from hpo.cli.display.tables import show
from hpo.cli.display.terminal.painter import interactive
from hpo.cli.display.watch import Reading, _print, events
from hpo.driver.events import Event
from hpo.home import Home
from hpo.ledger.outcome import Ending
from hpo.ledger.records import Attempt, Pause, Phase, Repeat, StudyRecord, TrialRecord
from hpo.results.progress import progress
from tests.support.sample_records import BEGAN, SPEC, busy, study, trial

HOME = Home(Path("/home/somebody/studies"))


def lines(record: StudyRecord, width: int, height: int, notes: tuple[str, ...] = ()) -> list[str]:
    """The screen's lines, as the painter has them rendered."""
    console = Console(width=width, height=height, file=io.StringIO(), color_system=None)
    rendered = console.render_lines(Screen(record, HOME, 1.0, notes), console.options, pad=False)
    return ["".join(segment.text for segment in line if not segment.control).rstrip() for line in rendered]


@pytest.mark.parametrize("running", [0, 1, 2, 64, 500])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 50), (200, 50), (200, 24), (40, 12), (20, 6)])
def test_the_screen_never_outgrows_the_terminal(width: int, height: int, running: int) -> None:
    shown = lines(busy(running), width, height, ("some library said something\n" + "x" * 300,))
    assert max(map(len, shown)) <= width
    assert len(shown) <= height - 2, "two lines are left below"


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
@pytest.mark.parametrize("running", [2, 64])
def test_the_screen_has_every_part(width: int, height: int, running: int) -> None:
    text = "\n".join(lines(busy(running), width, height))
    assert "15/100 ended  ETA 0:" in text
    assert f"2 complete, 10 pruned, 3 failed, {running} running" in text
    assert "56.10 %  trial 1, epoch 16/16, +0.10 points over the baseline" in text
    assert "lr=0.001245  dropout.end=0.25" in text
    assert "   15    4/4  224  15/16  56.50 %  56.50 %     1,23" in text, "a running trial"
    assert "failed   2 trials, last 14: OutOfMemory" in text
    assert "failed   trial 13: Diverged: the training loss became nan in epoch 3" in text
    assert "Traceback" not in text
    cells = next(line for line in text.splitlines() if line.startswith("reached (controls)")).split()[2:]
    reached, controls = cells[::2], cells[1::2]
    assert controls == ["(1)", "(1)"]
    stopped = next(line for line in text.splitlines() if line.startswith("stopped")).split()[1:]
    passed = next(line for line in text.splitlines() if line.startswith("passed")).split()[1:]
    assert stopped == ["7", "3"]
    assert [int(one) for one in reached] == [int(a) + int(b) for a, b in zip(stopped, passed, strict=True)]


def test_running_trials_that_do_not_fit_are_summarised_in_one_line() -> None:
    shown = lines(busy(64), 80, 24)
    more = next(line for line in shown if line.startswith("and "))
    rows = [line for line in shown if line.endswith(("cuda", "node-a")) or "  cuda" in line]
    assert more.startswith(f"and {64 - len(rows)} more: epochs 0 to 15, val acc 4")
    assert "images/s in all" in more


def test_a_tall_terminal_shows_all_64_running_trials() -> None:
    shown = lines(busy(64), 80, 100)
    assert sum("  cuda" in line for line in shown) == 64
    assert not any(line.startswith("and ") for line in shown)


def test_a_wide_terminal_shows_the_parameters_of_each_trial() -> None:
    assert any("lr  dropout.end  randaugment.end  stages" in line for line in lines(busy(2), 200, 50))


def test_trials_on_several_hosts_name_them() -> None:
    here, there = trial(1, 2), trial(2, 2)
    there = dataclasses.replace(there, attempts=(dataclasses.replace(there.attempts[0], host="node-b"),))
    shown = lines(study(here, there), 80, 24)
    assert any("cuda@node-b" in line for line in shown)
    assert not any("cuda@" in line for line in lines(study(here), 80, 24))


def test_the_screen_of_a_study_without_trials_or_without_pruning() -> None:
    assert any("no trial yet" in line for line in lines(study(), 80, 24))
    plain = SPEC.model_copy(update={"asha": SPEC.asha.model_copy(update={"enabled": False})})
    assert not any("rung" in line for line in lines(busy(2, plain), 80, 24))


def test_a_budget_in_hours_has_a_bar_and_limits_the_estimated_time() -> None:
    spec = SPEC.model_copy(update={"budget": SPEC.budget.model_copy(update={"hours": 0.15})})
    shown = "\n".join(lines(busy(2, spec), 80, 24))
    assert "0:08:01 of 0:09:00" in shown
    assert "ETA 0:00:59" in shown


def test_a_driver_without_heartbeat_is_shown_with_the_command_that_continues() -> None:
    console = Console(width=80, height=24, file=io.StringIO(), color_system=None)
    console.print(Screen(busy(2), HOME, 3_520.0))
    shown = console.file.getvalue()
    assert "no heartbeat for 0:58:40; continue with:\n         hpo resume cifar10_b0 --home /home/somebody" in shown


def test_markup_in_the_reason_of_a_failure_is_printed_as_text() -> None:
    broken = study(trial(0, 0, ending=Ending.FAILED, reason="KeyError: '[bold]no[/bold]' [/]"))
    assert any("'[bold]no[/bold]' [/]" in line for line in lines(broken, 80, 24))


def test_the_best_the_baseline_and_the_controls_are_marked_among_running_trials() -> None:
    running = [trial(0, 3, enqueued=True, control=True), trial(1, 9), trial(2, 4, control=True), trial(3, 2)]
    rows = [line for line in lines(study(*running), 80, 30) if "  cuda" in line]
    assert [row.split()[-1] for row in rows] == ["baseline", "best", "control", "cuda"]
    alone = [line for line in lines(study(running[0]), 80, 30) if "  cuda" in line]
    assert alone[0].endswith("best, baseline")
    assert not any("best  " in line for line in lines(busy(2), 80, 30) if "  cuda" in line)


@pytest.mark.parametrize("width", [80, 95, 105])
def test_the_last_title_counts_the_parameters_that_are_hidden(width: int) -> None:
    title = next(line for line in lines(busy(2), width, 40) if line.lstrip().startswith("trial  stage"))
    shown = sum(name in title for name in ("lr", "dropout.end", "randaugment.end", "stages"))
    assert shown < 4
    assert title.split("  ")[-1] == f"+{4 - shown} more"


def test_a_confirmation_names_the_trials_of_its_study_and_their_seeds() -> None:
    again = [trial(at, 3 + at, repeat=Repeat(7, at, seed=at, baseline=False)) for at in range(2)]
    shown = lines(dataclasses.replace(study(*again), name="cifar10_b0.confirmation", driver="open"), 120, 30)
    assert shown[0].endswith("16 epochs; new seeds, no pruning")
    assert any("  trial 7 seed 1, epoch 4/16; no trial is complete yet" in line for line in shown)
    assert [line.split("  ")[0] for line in shown if line.startswith("7 seed")] == ["7 seed 0", "7 seed 1"]


def test_a_terminal_that_is_not_small_shows_the_value_of_the_baseline() -> None:
    assert "baseline 56.00 %  trial 0" in lines(busy(2), 80, 30)
    notes = ("a library said something",)
    assert any(line.startswith("rung at epoch") for line in lines(busy(64), 80, 24, notes)), "no line for it in 24"


def test_a_wide_terminal_is_used_to_its_last_column() -> None:
    assert max(map(len, lines(busy(2), 200, 50))) == 200


# ----------------------------------------------------------------------------------------------- states


def ended(*endings: Ending, **fields: object) -> StudyRecord:
    trials = [trial(number, 16, ending=ending) for number, ending in enumerate(endings)]
    return dataclasses.replace(study(*trials), **fields)  # type: ignore[arg-type]


PAUSED = Pause("ann@node-a", 0.0)


@pytest.mark.parametrize(
    ("record", "silent", "state"),
    [
        (busy(2), 1.0, "running"),
        (busy(2), 500.0, "silent"),
        (dataclasses.replace(busy(2), paused=PAUSED), 1.0, "paused"),
        (dataclasses.replace(busy(2), driver="dead"), 1.0, "interrupted"),
        (ended(Ending.INTERRUPTED, Ending.COMPLETE), 1.0, "interrupted"),
        (ended(Ending.COMPLETE, ended="budget.hours: reached the budget of 2 hours"), 1.0, "finished"),
        (ended(*[Ending.COMPLETE] * 100), 1.0, "finished"),
        (ended(*[Ending.FAILED] * 100), 1.0, "failed"),
        (ended(ended="stop_after_failures: the first 3 trials failed in the same way"), 1.0, "failed"),
    ],
)
def test_a_study_has_one_state_and_only_a_running_one_has_a_time_to_its_end(
    record: StudyRecord, silent: float, state: str
) -> None:
    assert progress(record, silent).state == state
    console = Console(width=80, height=24, file=io.StringIO(), color_system=None)
    console.print(Screen(record, HOME, silent))
    shown = console.file.getvalue()
    assert ("ETA" in shown) == (state == "running")
    assert {"silent": "no sign of life", "running": "ETA"}.get(state, state) in shown
    assert ("hpo resume cifar10_b0" in shown) == (state in ("interrupted", "silent"))


def test_a_study_that_is_about_to_stop_says_so_instead_of_a_time_to_its_end() -> None:
    shown = "\n".join(lines(dataclasses.replace(busy(2), stopping="interrupted by SIGINT"), 80, 24))
    assert "stopping: interrupted by SIGINT; running trials end after their epoch" in shown
    assert "ETA" not in shown
    shown = "\n".join(lines(dataclasses.replace(busy(0), stopping="interrupted by SIGINT"), 80, 24))
    assert "stopping: interrupted by SIGINT; the last records are written" in shown, "no trial runs any more"


def test_the_last_picture_of_a_driver_has_no_time_to_the_end_and_leaves_the_rest_to_the_text_below() -> None:
    console = Console(width=80, height=24, file=io.StringIO(), color_system=None)
    console.print(Screen(busy(2), HOME, leaving=True))
    assert "ETA" not in console.file.getvalue()
    assert "state" not in console.file.getvalue()


def test_the_first_minute_says_what_it_waits_for() -> None:
    phases = {
        None: "starting: Ray starts workers",
        "importing": "starting: workers import torch and the trainer",
        "reading": "starting: workers read the data and the weights",
        "training": "training the first epochs",
    }
    for phase, words in phases.items():
        shown = lines(dataclasses.replace(study(at_work(0, phase), at_work(1, "training")), driver="open"), 80, 24)
        assert f"state    {words}" in shown
        assert not any(line.startswith("rung at") for line in shown), "no trial has come so far"
    shown = lines(dataclasses.replace(study(trial(0, 0)), driver="open"), 80, 24)
    assert "state    training the first epochs" in shown, "an older record has the device alone"
    assert not any(line.startswith("state") for line in lines(busy(2), 80, 24))


def at_work(number: int, phase: Phase | None, epochs: int = 0, resumed_after: int = 0) -> TrialRecord:
    """A running trial whose worker has done the same for 20 s when the study is 480 s old."""
    attempt = Attempt(BEGAN + 400.0, resumed_after, phase=phase)
    if phase is not None:
        attempt = dataclasses.replace(attempt, device="cuda", host="node-a", phase_since=BEGAN + 461.0)
    return dataclasses.replace(trial(number, epochs), attempts=(attempt,))


def test_a_trial_says_what_its_worker_does_and_for_how_long_until_its_first_epoch() -> None:
    running = [at_work(0, None), at_work(1, "importing"), at_work(2, "reading"), at_work(3, "training")]
    again, trained = at_work(4, "training", epochs=3, resumed_after=3), at_work(5, "training", epochs=3)
    shown = "\n".join(lines(study(*running, again, trained), 80, 40))
    cells = [re.findall(r"  (cuda|[a-z]+ \d:\d\d:\d\d)(?:  |$)", row) for row in shown.splitlines() if "/16  " in row]
    doing = ["starting 0:01:21", "importing 0:00:20", "reading 0:00:20", "training 0:00:20", "training 0:00:20", "cuda"]
    assert [cell for row in cells for cell in row] == doing


# ------------------------------------------------------------------------------------------ plain lines


def printed(*shown: Event) -> list[str]:
    stream = io.StringIO()
    view = PlainView(stream)
    view.begin(study())
    for event in shown:
        view(event)
    return [line[8:] for line in stream.getvalue().splitlines()]


def test_plain_lines_show_every_event() -> None:
    first, second = trial(3, 1), trial(3, 16, ending=Ending.COMPLETE, reason="trained for all 16 epochs")
    lost = dataclasses.replace(
        first, attempts=(dataclasses.replace(first.attempts[0], lost="ActorDiedError: it died"), first.attempts[0])
    )
    assert printed(
        Event("started", trial(3, 0)),
        Event("epoch", first),
        Event("lost", lost),
        Event("resumed", first),
        Event("resumed", trial(3, 0)),
        Event("finished", second),
        Event("notice", text="warning: odd"),
    ) == [
        "trial 3 started: lr=0.001265 dropout.end=0.25 randaugment.end=9.875 stages=4",
        "trial 3 epoch 1/16  val accuracy 41.30 %  128 px  1,234 images/s",
        "trial 3 lost its worker (ActorDiedError: it died); it is retried",
        "trial 3 resumed after epoch 1: lr=0.001265 dropout.end=0.25 randaugment.end=9.875 stages=4",
        "trial 3 started again: lr=0.001265 dropout.end=0.25 randaugment.end=9.875 stages=4",
        "trial 3 complete: trained for all 16 epochs",
        "best so far: 56.30 % by trial 3",
        "warning: odd",
    ]


def test_watching_the_ledger_gives_the_events_of_the_driver() -> None:
    before = study(trial(1, 2), trial(2, 1))
    after = study(trial(1, 3), trial(2, 1, ending=Ending.PRUNED, reason="below the cutoff"), trial(3, 0))
    told = [(event.kind, event.trial.number) for event in events(before, after) if event.trial]
    assert told == [("epoch", 1), ("finished", 2), ("started", 3)]
    assert events(after, after) == []
    (attempt,) = trial(1, 3).attempts
    lost = dataclasses.replace(
        trial(1, 3), attempts=(dataclasses.replace(attempt, lost="died", ended=attempt.started + 60),)
    )
    again = dataclasses.replace(lost, attempts=(*lost.attempts, attempt))
    assert [event.kind for event in events(study(trial(1, 3)), study(lost))] == ["lost"]
    assert [event.kind for event in events(study(lost), study(again))] == ["resumed"]
    assert [event.kind for event in events(None, after)] == ["epoch", "finished", "started"]


def test_watching_in_a_pipe_ends_with_what_became_of_the_study(capsys: pytest.CaptureFixture[str]) -> None:
    stopped = dataclasses.replace(busy(0), driver="none")
    _print(HOME, iter([Reading(busy(2), time.monotonic()), Reading(stopped, time.monotonic())]))
    last = capsys.readouterr().out.splitlines()[-1]
    assert "interrupted: no driver runs it; continue with: hpo resume cifar10_b0 --home /home/somebody" in last


def test_the_closing_text_fits_eighty_columns() -> None:
    text = closing(busy(0), " --home /home/somebody/studies")
    assert "Gain over the baseline: +0.10 points (trial 0, 56.00 %)" in text
    assert all(len(line) <= 80 for line in closing(busy(0), "").splitlines())


@pytest.mark.parametrize("change", [{"enabled": False}, {"uri": "http://127.0.0.1:5000"}])
def test_the_closing_text_proposes_hpo_ui_only_if_the_home_folder_has_the_runs(
    change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    elsewhere = SPEC.model_copy(update={"tracking": SPEC.tracking.model_copy(update=change)})
    assert "hpo ui" in closing(busy(0), "")
    assert "hpo ui" not in closing(busy(0, elsewhere), "")
    assert "hpo export" in closing(busy(0, elsewhere), "")


def test_each_command_of_the_closing_text_names_the_home_folder_that_was_typed() -> None:
    steps = closing(busy(0), " --home mine").partition("Next:\n")[2].splitlines()
    assert "hpo retrain best.yaml --home mine" in steps[-1]
    assert all("--home mine" in step for step in steps)


def test_the_closing_text_proposes_no_command_that_refuses_the_trainer() -> None:
    custom = SPEC.model_copy(update={"trainer": "mine:train"})
    assert "hpo retrain" in closing(busy(0), "")
    assert "hpo retrain" not in closing(busy(0, custom), "")
    assert "hpo confirm" in closing(busy(0, custom), "")


# ------------------------------------------------------------------------------------------------ tables


def table(width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of the trials of a study, on a terminal of that width; 0 for a pipe."""
    monkeypatch.setenv("COLUMNS", str(width or 80))
    monkeypatch.setenv("FORCE_COLOR", "1" if width else "")
    record = study(trial(10, 16, ending=Ending.COMPLETE), trial(11, 4, ending=Ending.PRUNED))
    hidden = ("origin", "epochs")
    show(*(_trials(record, record.trials, *hidden[:count]) for count in range(3)), hidden=hidden)
    return [line.rstrip() for line in Text.from_ansi(capsys.readouterr().out).plain.splitlines()]


@pytest.mark.parametrize("width", [0, 20, 64, 70, 80, 200])
def test_no_cell_of_a_table_is_cut_off(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = table(width, capsys, monkeypatch)
    assert "…" not in "".join(shown)
    rows = [line.split() for line in shown if line.split()[:1] in (["10"], ["11"])]
    assert [row[:2] for row in rows] == [["10", "complete"], ["11", "pruned"]]
    assert rows[0][-4:] == ["0.00133", "0.25", "9.88", "4"]
    assert width < 64 or max(map(len, shown)) <= width


def test_a_narrow_table_leaves_out_origin_and_then_epochs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [table(width, capsys, monkeypatch) for width in (0, 71, 64)]
    tables = [" ".join(line for line in one if not line.startswith("hidden")) for one in found]
    assert ["origin" in one for one in tables] == [True, False, False]
    assert ["epochs" in one for one in tables] == [True, True, False]
    hints = [[line.partition(" (")[0] for line in one if line.startswith("hidden")] for one in found]
    assert hints == [[], ["hidden column: origin"], ["hidden columns: origin, epochs"]]


# ------------------------------------------------------------------------------------------- the choice


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "dumb"}, False),
        ({}, False),
        ({"TERM": "xterm", "CI": "true"}, False),
        ({"TERM": "xterm", "CI": "false"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True),
    ],
)
def test_a_live_view_needs_a_terminal_that_can_be_painted_on(environment: dict[str, str], expected: bool) -> None:
    assert interactive(Terminal(), environment) is expected
    assert not interactive(io.StringIO(), environment)


def test_a_pipe_gets_plain_lines(home, capsys: pytest.CaptureFixture[str]) -> None:
    with console_view(home) as view:
        assert isinstance(view, PlainConsole)
        view.begin(study())
        view(Event("started", trial(0, 0)))
    captured = capsys.readouterr()
    assert "trial 0 started" in captured.err
    assert captured.out == ""
