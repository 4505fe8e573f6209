"""The calculations behind the report: intervals, time, stages, scales, importances, survival."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.home import NAME
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import Attempt, EpochRecord, StudyRecord, TrialRecord
from hpo.results.intervals import difference, wilson
from hpo.spec.objectives import VAL_ACCURACY
from hpo.text import short_names
from hpo.validation.loader import parse_spec
from reports.analysis.answer import cost
from reports.analysis.importance import importances
from reports.analysis.stages import Stages, comparable_epoch
from reports.analysis.timeline import EVAL, LOST, OTHER, START, TRAIN, Clock, account, spans
from reports.drawing.plot import ColorScale, Plot, Surface
from reports.figures.contours import contours
from reports.figures.scales import scales
from reports.figures.survival import stacks
from reports.figures.trials import score_axis, thin
from reports.page.reproduce import reproduction
from tests.browser.simulation import INFO, simulated_study, study_spec
from trainers.api import EpochMetrics


@pytest.fixture(scope="module")
def study() -> StudyRecord:
    return simulated_study(trials=60)


# ------------------------------------------------------------------------------------------ intervals


def test_wilson_agrees_with_published_figures() -> None:
    """Newcombe 1998, table I: 81 of 263 and 15 of 148; then the edges, where the usual interval fails."""
    first = wilson(81 / 263, 263)
    assert (round(first.low, 4), round(first.high, 4)) == (0.2553, 0.3662)
    second = wilson(15 / 148, 148)
    assert (round(second.low, 4), round(second.high, 4)) == (0.0624, 0.1605)
    assert wilson(0.0, 20).low == 0.0
    assert round(wilson(0.0, 20).high, 4) == 0.1611
    assert wilson(1.0, 20).high == 1.0


def test_newcombe_agrees_with_published_figures() -> None:
    """Newcombe 1998 (Stat. Med. 17:873), table II, method 10: 56/70 against 48/80."""
    found = difference(56 / 70, 48 / 80, 70, 80)
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)
    assert found.significant


@given(st.integers(1, 100_000), st.floats(0, 1))
def test_wilson_holds_its_value_inside_the_unit_interval(count: int, share: float) -> None:
    found = wilson(share, count)
    assert 0 <= found.low <= share <= found.high <= 1


@pytest.mark.parametrize(("share", "count"), [(0.5, 0), (1.1, 10), (math.nan, 10)])
def test_wilson_refuses_a_wrong_share_or_count(share: float, count: int) -> None:
    with pytest.raises(ValueError, match="no interval"):
        wilson(share, count)


# ----------------------------------------------------------------------------------------------- time


def epoch(number: int, recorded: float) -> EpochRecord:
    """Ten seconds: seven of training, two of evaluation, one of checkpointing."""
    return EpochRecord(
        EpochMetrics(epoch=number, val_accuracy=0.5, train_seconds=7.0, eval_seconds=2.0, seconds=10.0), recorded
    )


def small(*trials: TrialRecord, sessions: tuple[tuple[float, float], ...] = ((1000.0, 1100.0),)) -> StudyRecord:
    return StudyRecord("small", study_spec("small", epochs=4), INFO, trials, sessions)


def test_every_second_of_a_worker_is_accounted_for() -> None:
    done = Outcome(Ending.PRUNED, "below")
    epochs = (epoch(1, 1015.0), epoch(2, 1027.0))
    one = TrialRecord(0, attempts=(Attempt(1000.0, pid=1),), epochs=epochs, outcome=done, finished=1028.0)
    two = dataclasses.replace(one, number=1, attempts=(Attempt(1002.0, pid=2),))
    time = account(small(one, two))
    assert time.slots == 2
    assert time.by_kind == pytest.approx({TRAIN: 28.0, EVAL: 8.0, START: 8.0, OTHER: 10.0, LOST: 0.0})
    assert time.busy == pytest.approx(28.0 + 26.0)
    assert time.busy + time.idle == pytest.approx(2 * 100.0)


def test_the_start_up_of_a_trainer_that_reports_no_times_is_not_training() -> None:
    """Twelve seconds until the first report, two until each later one: ten of the twelve are start-up."""
    done = Outcome(Ending.COMPLETE, "")

    def silent(number: int, *recorded: float) -> TrialRecord:
        epochs = tuple(
            EpochRecord(EpochMetrics(epoch=place, val_accuracy=0.5), moment) for place, moment in enumerate(recorded, 1)
        )
        return TrialRecord(number, attempts=(Attempt(1000.0),), epochs=epochs, outcome=done, finished=recorded[-1])

    shares = account(small(silent(0, 1012.0, 1014.0, 1016.0))).by_kind
    assert shares == pytest.approx({TRAIN: 6.0, EVAL: 0.0, START: 10.0, OTHER: 0.0, LOST: 0.0})
    shares = account(small(silent(0, 1012.0), silent(1, 1003.0))).by_kind
    assert (shares[START], shares[TRAIN]) == (9.0, 6.0), "the quickest first report had the least start-up"


def test_time_after_the_last_report_of_a_lost_worker_counts_as_lost() -> None:
    attempts = (
        Attempt(1000.0, pid=1, lost="died"),
        Attempt(1040.0, resumed_after=1, pid=2),
    )
    done = Outcome(Ending.PRUNED, "below")
    trial = TrialRecord(
        0, attempts=attempts, epochs=(epoch(1, 1015.0), epoch(2, 1060.0)), outcome=done, finished=1060.0
    )
    first, second = spans(small(trial))
    assert [(one.kind, one.end - one.start) for one in first.segments] == [
        (START, 5.0),
        (TRAIN, 7.0),
        (EVAL, 2.0),
        (OTHER, 1.0),
        (LOST, 25.0),
    ]
    assert second.segments[0].kind == START
    assert second.segments[0].end - second.segments[0].start == pytest.approx(10.0)
    assert first.worker != second.worker


def test_the_time_between_two_sessions_is_not_counted() -> None:
    attempts = (Attempt(1000.0, pid=1), Attempt(50_000.0, resumed_after=1, pid=2))
    trial = TrialRecord(0, attempts=attempts, epochs=(epoch(1, 1015.0), epoch(2, 50_020.0)))
    study = small(trial, sessions=((1000.0, 1020.0), (50_000.0, 50_030.0)))
    clock = Clock(study, spans(study))
    assert clock.total == pytest.approx(50.0)
    assert clock.breaks == [pytest.approx(20.0)]
    assert clock.position(50_010.0) == pytest.approx(30.0)
    assert account(study).by_kind[LOST] == 0.0


def test_simulated_time_adds_up(study: StudyRecord) -> None:
    time = account(study)
    assert time.slots == 4
    assert time.by_kind[LOST] > 0
    trained = sum(e.metrics.train_seconds or 0.0 for trial in study.trials for e in trial.epochs)
    # Epochs that a failed trial did not finish are training too.
    assert trained <= time.by_kind[TRAIN] <= trained * 1.05
    for span in spans(study):
        assert sum(one.end - one.start for one in span.segments) == pytest.approx(span.seconds)


# --------------------------------------------------------------------------------------------- stages


def test_what_pruning_saved_counts_later_and_larger_images() -> None:
    """Stopped after the first of four stages of 128 to 300 px: the rest costs more than three times as much."""
    epochs = tuple(
        EpochRecord(EpochMetrics(epoch=number, val_accuracy=0.5, stage=0, seconds=2.0), 1000.0 + number)
        for number in range(1, 9)
    )
    spec = study_spec(epochs=32)
    values = {"train.progressive.stages": 4, "train.progressive.size.start": 128}
    outcome = Outcome(Ending.PRUNED, "below")
    trial = TrialRecord(0, values, attempts=(Attempt(1000.0),), epochs=epochs, outcome=outcome, finished=1010.0)
    study = StudyRecord("s", spec, INFO, (trial,), ((1000.0, 1010.0),))
    sizes = [stage.size for stage in Stages(study).of(trial)]
    assert sizes == [128, 185, 243, 300]
    expected = 16.0 * sum(size**2 for size in sizes[1:]) / sizes[0] ** 2
    assert cost(study).saved_seconds == pytest.approx(expected)
    assert cost(study).saved_epochs == 24


def test_trials_are_compared_after_an_epoch_that_enough_trials_reached(study: StudyRecord) -> None:
    epoch = comparable_epoch(study)
    assert epoch in (2, 8, 32)
    assert sum(len(trial.epochs) >= epoch for trial in study.trials) >= 20
    assert comparable_epoch(dataclasses.replace(study, trials=study.trials[:3])) is None


def test_rung_survival_counts_every_arrival_and_never_stops_a_control(study: StudyRecord) -> None:
    first, second, end = stacks(study)
    reached = [sum(any(rung.rung == level for rung in trial.rungs) for trial in study.trials) for level in (2.0, 8.0)]
    assert [first.trials, second.trials] == reached
    assert first.stopped + second.stopped == study.count("pruned")
    assert end.trials == study.count("complete")
    assert [stack.controls for stack in (first, second, end)] == [1, 1, 1]


# --------------------------------------------------------------------------------------- parameters


def test_labels_of_parameters_are_as_short_as_possible() -> None:
    names = ["train.lr", "train.progressive.dropout.end", "train.progressive.size.end", "extra.a.lr"]
    assert list(short_names(names).values()) == ["train.lr", "dropout.end", "size.end", "a.lr"]


def test_scales_place_values_by_the_kind_of_parameter(study: StudyRecord) -> None:
    found = scales([study])
    rate = found["train.lr"]
    assert rate.position(1e-3) == pytest.approx(-3.0)
    assert rate.share(-3.0) == pytest.approx(0.5)
    assert rate.ticks == ((-4.0, "0.0001"), (-3.0, "0.001"), (-2.0, "0.01"))
    assert found["train.optimizer"].position("sgd") == 1.0
    assert found["train.optimizer"].position("unknown") is None
    assert found["train.progressive.size.start"].levels == (128, 160, 192, 224, 256, 288)
    other = StudyRecord("b", study_spec(space={"train.lr": rate_of(1e-5, 1e-1)}, enqueue=[]), {})
    shared = scales([study, other])
    assert shared.keys() == {"train.lr"}
    assert (shared["train.lr"].low, shared["train.lr"].high) == (-5.0, -1.0)


def rate_of(low: float, high: float) -> dict[str, object]:
    return {"type": "float", "low": low, "high": high, "log": True}


def test_the_parameter_that_decides_is_the_most_important(study: StudyRecord) -> None:
    """Accuracy made to follow dropout alone."""

    def following(trial: TrialRecord) -> TrialRecord:
        value = float(trial.values["train.progressive.dropout.end"] or 0.0)
        epochs = tuple(EpochRecord(EpochMetrics(epoch=number, val_accuracy=value), 0.0) for number in (1, 2))
        return dataclasses.replace(trial, epochs=epochs)

    trials = tuple(map(following, study.trials))
    (found,) = importances(dataclasses.replace(study, trials=trials))
    assert next(iter(found.shares)) == "train.progressive.dropout.end"
    assert found.shares["train.progressive.dropout.end"] > 0.5
    assert sum(found.shares.values()) == pytest.approx(1.0)
    assert (found.epoch, found.trials) == (2, 60)


def test_equal_values_have_no_importances(study: StudyRecord) -> None:
    flat = EpochRecord(EpochMetrics(epoch=1, val_accuracy=0.1), 0.0)
    trials = tuple(dataclasses.replace(trial, epochs=(flat, flat)) for trial in study.trials)
    assert importances(dataclasses.replace(study, trials=trials)) == ()


def test_contours_average_near_trials_and_leave_other_areas_empty(study: StudyRecord) -> None:
    names = ["train.lr", "train.progressive.dropout.end"]
    plot = contours([study], scales([study]), names)
    assert isinstance(plot, Plot)
    (surface,) = [mark for mark in plot.panels[0].marks if isinstance(mark, Surface)]
    known = [value for row in surface.z for value in row if value is not None]
    epoch = comparable_epoch(study)
    assert epoch is not None
    values = [100 * t.epochs[epoch - 1].metrics.val_accuracy for t in study.trials if len(t.epochs) >= epoch]
    assert min(values) - 1e-3 <= min(known) < max(known) <= max(values) + 1e-3
    low_rate = [row[4] for row in surface.z if row[4] is not None]
    good_rate = [row[30] for row in surface.z if row[30] is not None]
    assert max(low_rate) < max(good_rate), "accuracy falls towards the low learning rates"


# --------------------------------------------------------------------------------------------- others


def test_thinning_keeps_the_best_and_the_baseline(study: StudyRecord) -> None:
    kept = thin(study, study.trials, 20)
    assert len(kept) == 20
    assert study.best in kept
    assert study.baseline in kept
    assert thin(study, study.trials, 100) == list(study.trials)


def test_the_axis_of_accuracies_leaves_out_a_few_very_low_values() -> None:
    axis, below = score_axis(VAL_ACCURACY, [0.1, *(0.9 + 0.001 * index for index in range(30))])
    assert axis.span is not None
    assert axis.span[0] > 80
    assert below == 1
    axis, below = score_axis(VAL_ACCURACY, [0.85, 0.9, 0.91])
    assert axis.span is not None
    assert axis.span[0] < 85
    assert below == 0


@given(st.floats(0, 99), st.floats(1e-3, 100))
def test_levels_of_contours_are_few_and_inside_the_range(low: float, width: float) -> None:
    levels = ColorScale("", low, low + width).levels
    assert 3 <= len(levels) <= 13
    assert low - 1e-6 <= levels[0] < levels[-1] <= low + width + 1e-6


def test_the_specification_in_a_report_is_the_same_study_again(study: StudyRecord) -> None:
    found = reproduction(study)
    assert ("git commit", INFO["git_commit"]) in found.facts
    assert ("seed of the best trial", str(study.best.seed if study.best else None)) in found.facts
    assert "hpo export cifar10 -o best.yaml" in [command for _, command in found.commands]
    again = parse_spec(found.specification, "report")
    assert again.to_yaml() == study.spec.to_yaml()
    assert again.base() == study.spec.base()


def test_the_commands_of_a_report_name_the_home_folder(study: StudyRecord) -> None:
    commands = [command for _, command in reproduction(study, " --home /studies").commands]
    assert len(commands) == 5
    assert all(" --home /studies" in command for command in commands)


def test_the_command_that_repeats_a_study_of_the_longest_name_has_a_valid_name(study: StudyRecord) -> None:
    command = reproduction(dataclasses.replace(study, name="n" * 64)).commands[0][1]
    assert NAME.fullmatch(command.rpartition("study=")[2])
