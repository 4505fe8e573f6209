"""What the audit says of studies whose curves are known, written by the real ledger and conductor."""

from __future__ import annotations

import dataclasses
import json
import random

import optuna
import pytest
from scipy import stats
from typer.testing import CliRunner

from hpo.cli import app as cli
from hpo.driver.conductor import Conductor
from hpo.home import Home
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.results.audit_text import remarks
from hpo.results.progress import survival
from hpo.search.asha import AshaPruner
from hpo.search.forecast import advice
from hpo.search.pruning_audit import ENOUGH_CONTROLS, TOLERATED, _controls, audit, rehearse
from hpo.search.rank_statistics import winner_weights
from reports.drawing.plot import Bars, Plot
from reports.figures.survival import survival_plot
from tests.conftest import synthetic_spec
from tests.support import in_process_driver
from tests.support.undrawn_report import write_undrawn
from trainers.api import EpochMetrics

EPOCHS = 16
FAILED = Outcome(Ending.FAILED, "OutOfMemory")


def spec(trials: int, controls: float, **asha: object):
    return synthetic_spec(
        "audited",
        train={"epochs": EPOCHS, "progressive": {"stages": 1}},
        asha={"reduction_factor": 2, "controls": controls, **asha},
        budget={"trials": trials},
    )


def play(ledger: Ledger, curves: list[list[float]]) -> StudyRecord:
    """Train the trials one after another along given curves."""
    conductor = Conductor(ledger)
    while (assignment := conductor.next_trial()) is not None:
        for epoch, value in enumerate(curves[assignment.number], start=1):
            if not conductor.on_epoch(assignment.number, EpochMetrics(epoch=epoch, val_accuracy=value)):
                break
    conductor.close()
    return ledger.study


def played(curves: list[list[float]], controls: float = 1.0, **asha: object) -> StudyRecord:
    return play(
        in_process_driver.create(optuna.storages.InMemoryStorage(), spec(len(curves), controls, **asha)), curves
    )


def lines(starts: list[float], ends: list[float]) -> list[list[float]]:
    """Straight from a value after the first epoch to one after the last."""
    return [
        [start + (end - start) * epoch / (EPOCHS - 1) for epoch in range(EPOCHS)]
        for start, end in zip(starts, ends, strict=True)
    ]


def mixed(count: int, seed: int = 0) -> list[list[float]]:
    """Starts that foretell ends in part."""
    chance = random.Random(seed)
    ends = [chance.uniform(0.4, 0.9) for _ in range(count)]
    return lines([0.3 * end + chance.uniform(0, 0.2) for end in ends], ends)


def test_the_figures_follow_from_the_curves_of_the_controls() -> None:
    curves = mixed(12)
    study = played(curves)
    found = audit(study)
    assert (found.controls, found.pending) == (12, 0)
    assert [rung.level for rung in found.rungs] == [1, 2, 4, 8]
    ends = [curve[-1] for curve in curves]
    for rung in found.rungs:
        early = [curve[int(rung.level) - 1] for curve in curves]
        assert rung.tau.value == pytest.approx(stats.kendalltau(early, ends).statistic)
        assert rung.tau.low <= rung.tau.value <= rung.tau.high
        assert rung.controls == 12
    verdicts = AshaPruner([1, 2, 4, 8], 2)
    stopped = [not verdicts.decide(trial, 1, curve[0]).keep for trial, curve in enumerate(curves)]
    weights = winner_weights(ends)
    first = found.rungs[0].retention.value
    assert first == pytest.approx(1 - sum(weight for weight, one in zip(weights, stopped, strict=True) if one))
    assert found.winner_pruned.value >= 1 - first - 1e-12


def test_the_winner_is_pruned_if_early_values_rank_backwards() -> None:
    """The best starts worst: ASHA stops it, and only waiting for longer helps."""
    ends = [0.5 + 0.02 * place for place in range(10)]
    study = played(lines([0.9 - end for end in ends], ends))
    found = audit(study)
    assert found.rungs[0].tau.value == pytest.approx(-1)
    assert found.winner_pruned.value > 0.9
    assert found.winner_pruned.low > 0.3, "even one study's winner tells that much"
    said = " ".join(remarks(study, found))
    assert found.present is not None
    assert found.present.lost > 0.9
    if found.advised is None:
        assert "No setting tried keeps the winner" in said
    else:
        assert found.advised.lost <= TOLERATED
        assert found.advised.grace_period > 2


def test_the_cheapest_setting_is_suggested_if_early_values_rank_perfectly() -> None:
    ends = [0.5 + 0.02 * place for place in range(12)]
    study = played(lines([end / 2 for end in ends], ends))
    found = audit(study)
    assert all(rung.tau.value == pytest.approx(1) for rung in found.rungs)
    assert found.winner_pruned.value == 0
    assert found.winner_pruned.high > 0.5, "the winner of twelve is one trial: nothing is proven"
    assert found.advised is not None
    assert (found.advised.grace_period, found.advised.reduction_factor) == (1, 4)
    assert found.present is not None
    assert found.advised.share < found.present.share < 1
    assert "Suggested setting: grace_period 1, reduction_factor 4" in " ".join(remarks(study, found))


def test_no_setting_is_suggested_that_saves_nothing() -> None:
    ends = [0.5 + 0.02 * place for place in range(12)]
    study = played(lines([end / 2 for end in ends], ends))
    found = audit(study)
    assert found.present is not None
    alike = dataclasses.replace(found, advised=dataclasses.replace(found.present, share=found.present.share - 0.005))
    said = " ".join(remarks(study, alike))
    assert "No setting that was tried is better." in said
    assert "Suggested" not in said
    unsafe = dataclasses.replace(alike, present=dataclasses.replace(found.present, lost=0.5))
    assert "Suggested setting" in " ".join(remarks(study, unsafe)), "as cheap, but it keeps the winner"


def test_a_rehearsal_applies_asha_to_the_recorded_curves() -> None:
    """With everything kept or one look only, its figures can be worked out by hand."""
    study = played(lines([0.1 * place for place in range(8)], [0.9] * 8))
    controls = _controls(study, study.trials)
    late = rehearse(controls, study.spec.asha.model_copy(update={"grace_period": EPOCHS}))
    assert (late.share, late.lost) == (1, 0)
    single = study.spec.asha.model_copy(update={"grace_period": 8, "reduction_factor": 2.0})
    tried = rehearse(controls, single)
    assert 0.5 + 0.5 / 8 <= tried.share < 1, "a stopped trial has trained half, and the first trial is not stopped"


@pytest.mark.parametrize("count", [1, 2])
def test_the_audit_says_that_there_are_too_few_controls(count) -> None:
    found = audit(study := played(mixed(count)))
    assert found.rungs == ()
    said, replayed = remarks(study, found)
    assert replayed.startswith("Replayed: all")
    assert said.startswith(f"Too few controls: {count} control{'' if count == 1 else 's'} trained to the end")


def test_some_controls_give_figures_but_no_advice() -> None:
    found = audit(study := played(mixed(ENOUGH_CONTROLS - 1)))
    assert len(found.rungs) == 4
    assert found.advised is None
    assert "Too few controls for advice" in remarks(study, found)[-2]


def test_complete_trials_are_not_all_controls() -> None:
    study = played(mixed(20), controls=0.2)
    complete = sum(trial.complete for trial in study.trials)
    found = audit(study)
    assert found.controls == sum(trial.control for trial in study.trials) < complete


def test_a_decision_that_does_not_follow_from_the_recorded_values_is_listed() -> None:
    """Somebody changed the record: a trial that had to stop continued."""
    study = played(mixed(12), controls=0.0)
    number, decision = next((trial.number, rung) for trial in study.trials for rung in trial.rungs if not rung.keep)
    forged = dataclasses.replace(decision, keep=True)
    trials = tuple(
        dataclasses.replace(trial, rungs=tuple(forged if rung is decision else rung for rung in trial.rungs))
        for trial in study.trials
    )
    study = dataclasses.replace(study, trials=trials)
    found = audit(study)
    assert [mismatch.trial for mismatch in found.mismatches] == [number]
    said = remarks(study, found)
    assert f"1 of {found.decisions} decisions of ASHA do not follow from the values recorded before them" in said[-2]
    assert said[-1].startswith(f"trial {number} at rung {decision.rung:g}: recorded continue (cutoff")
    assert "expected stop (cutoff" in said[-1]


def test_without_asha_there_is_nothing_to_audit() -> None:
    study = played(mixed(4), enabled=False)
    assert remarks(study, audit(study)) == ["ASHA is off in this study: nothing is pruned."]


def test_a_share_with_too_few_controls_causes_a_warning() -> None:
    (warning,) = advice(spec(10, 0.1))
    assert "0.1 of 10 trials is 1 control;" in warning
    assert advice(spec(100, 0.1)) == []
    assert advice(spec(10, 0)) == []


def test_the_command_and_the_report_show_the_audit(home: Home, tmp_path) -> None:
    storage = open_storage(home.ledger_url)
    study = play(in_process_driver.create(storage, spec(12, 1.0)), mixed(12))
    shown = CliRunner().invoke(cli.app, ["audit", "audited", "--home", str(home.path)])
    assert shown.exit_code == 0, shown.output
    assert "12 controls trained to the end." in shown.output
    assert "Pruning cost nothing: no trial was pruned." in shown.output
    assert "rank agreement with" in shown.output
    assert "the final result" in shown.output
    assert "the winner survives" in shown.output
    decisions = sum(len(trial.rungs) for trial in study.trials)
    replayed = f"Replayed: all {decisions} decisions of ASHA follow from the values recorded before them."
    assert replayed in " ".join(shown.output.split())
    printed = CliRunner().invoke(cli.app, ["audit", "audited", "--home", str(home.path), "--json"])
    figures = json.loads(printed.output)
    assert figures["controls"] == 12
    assert (figures["decisions"], figures["mismatches"]) == (decisions, [])
    assert replayed in figures["remarks"]
    assert [rung["level"] for rung in figures["rungs"]] == [1, 2, 4, 8]
    page = write_undrawn([study], tmp_path).read_text(encoding="utf-8")
    assert "Audit of the pruning" in page
    assert "Pruning cost nothing: no trial was pruned." in page
    assert replayed in page
    assert "## Audit of the pruning" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_the_survival_of_rungs_adds_up_with_controls_failures_and_running_trials() -> None:
    """Trials 0, 2, 4, 7 and 9 are controls, and ASHA would have stopped four of them."""
    played_out = played(mixed(12), controls=0.4)
    trials = list(played_out.trials)
    failed, running = trials[6], trials[10]
    trials[6] = dataclasses.replace(failed, epochs=failed.epochs[:3], rungs=failed.rungs[:2], outcome=FAILED)
    trials[10] = dataclasses.replace(running, epochs=running.epochs[:9], outcome=None)
    study = dataclasses.replace(played_out, trials=tuple(trials))
    rungs = survival(study)
    assert [rung.controls for rung in rungs] == [5, 5, 5, 5]
    assert [rung.stopped for rung in rungs] == [3, 1, 0, 0]
    reached = [12, 9, 7, 7, 6]
    assert [*(rung.reached for rung in rungs), study.count("complete")] == reached
    assert [rung.passed - rung.left for rung in rungs] == reached[1:]
    assert [rung.left for rung in rungs] == [0, 1, 0, 1]
    figure = survival_plot([study])
    assert isinstance(figure, Plot)
    bars = [mark for mark in figure.panels[0].marks if isinstance(mark, Bars)]
    assert [sum(lengths) for lengths in zip(*(bar.lengths for bar in bars), strict=True)] == reached
    assert "Controls are trials that ASHA never stops." in figure.caption
    assert "missing in the next bar: 1 after rung 2, 1 after rung 8." in figure.caption
