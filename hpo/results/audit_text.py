"""The audit of a study's pruning as sentences and table rows, for the terminal and the report."""

from __future__ import annotations

from collections.abc import Iterator

from hpo.ledger.records import RungDecision, StudyRecord
from hpo.results.pruning.cost import amount, pruning_cost, sentence
from hpo.search.pruning_audit import ENOUGH_CONTROLS, LEAST_CONTROLS, TOLERATED, Audit, Rehearsal
from hpo.search.rungs import rung_resource
from hpo.spec.objectives import Objective

HARDLY = 0.01
"""A smaller share of all epochs is not worth another setting."""


def remarks(study: StudyRecord, audit: Audit) -> list[str]:
    """The findings in sentences, and how far to trust them."""
    if not study.spec.asha.enabled:
        return ["ASHA is off in this study: nothing is pruned."]
    return [*_of_controls(study, audit), *_of_landing(study, audit), *_of_decisions(audit)]


def _of_controls(study: StudyRecord, audit: Audit) -> Iterator[str]:
    asha, goal = study.spec.asha, study.spec.objective
    trained = f"{audit.controls} {'control' if audit.controls == 1 else 'controls'} trained to the end"
    pending = f", {audit.pending} failed or did not end yet" if audit.pending else ""
    if not audit.rungs:
        yield (
            f"Too few controls: {trained}{pending}. {sentence(pruning_cost(study), goal)} The other figures need at "
            f"least {LEAST_CONTROLS} controls, advice needs {ENOUGH_CONTROLS}. Controls are the baseline and the share "
            f"asha.controls of the other trials ({asha.controls:g} here)."
        )
        return
    yield sentence(pruning_cost(study), goal)
    yield f"{trained}{pending}."
    if not audit.enough:
        yield f"Too few controls for advice: it needs at least {ENOUGH_CONTROLS}."
    elif audit.advised is None:
        yield (
            f"No setting tried keeps the winner with {1 - TOLERATED:.0%}: values from the first half of the training "
            "say too little about the final result here. Set asha.grace_period to more than half of train.epochs, or "
            "set asha.enabled: false."
        )
    else:
        if audit.present is not None:
            yield f"This study's setting, tried on the curves of the controls: {_setting(audit.present, goal)}."
        if audit.present is not None and _as_good(audit.present, audit.advised):
            yield "No setting that was tried is better."
        else:
            yield f"Suggested setting: {_setting(audit.advised, goal)}."


def _as_good(present: Rehearsal, advised: Rehearsal) -> bool:
    """Whether the study's own setting keeps the winner as surely as is asked, and trains hardly more."""
    return present.lost <= TOLERATED and present.share - advised.share < HARDLY


def _setting(rehearsal: Rehearsal, objective: Objective) -> str:
    unit = "points" if objective.is_accuracy else f"in {objective.label}"
    return (
        f"grace_period {rehearsal.grace_period}, reduction_factor {rehearsal.reduction_factor:g}, which trains "
        f"{rehearsal.share:.0%} of all epochs and costs {amount(rehearsal.cost, objective)} {unit} on average"
    )


def _of_landing(study: StudyRecord, audit: Audit) -> Iterator[str]:
    """Trials that were taken up tell of the pruning, but not as controls do."""
    if not audit.taken_up:
        return
    trials = "1 pruned trial was" if audit.taken_up == 1 else f"{audit.taken_up} pruned trials were"
    best = study.best
    won = f"; trial {best.number}, the best of the study, is one of them" if best is not None and best.taken_up else ""
    yield (
        f"Landing: {trials} taken up again, and {audit.landed} of them trained to the end{won}. They do not count as "
        "controls, because they were chosen for what they promised."
    )


def _of_decisions(audit: Audit) -> Iterator[str]:
    if not audit.decisions:
        return
    if not audit.mismatches:
        yield f"Replayed: all {audit.decisions} decisions of ASHA follow from the values recorded before them."
        return
    yield (
        f"Replayed: {len(audit.mismatches)} of {audit.decisions} decisions of ASHA do not follow from the values "
        "recorded before them:"
    )
    for mismatch in audit.mismatches:
        yield (
            f"trial {mismatch.trial} at rung {mismatch.recorded.rung:g}: recorded {_decision(mismatch.recorded)}, "
            f"expected {_decision(mismatch.expected)}"
        )


def _decision(decision: RungDecision) -> str:
    cutoff = "no cutoff" if decision.cutoff is None else f"cutoff {decision.cutoff:.4f}"
    return f"{'continue' if decision.keep else 'stop'} ({cutoff}, decision {decision.order})"


def columns(study: StudyRecord) -> tuple[str, ...]:
    """The titles of `rows`."""
    unit = rung_resource(study.spec)
    survives = "chance that the winner survives"
    return (f"rung ({unit})", "complete controls", "rank agreement with the final result", survives)


def rows(audit: Audit) -> list[tuple[str, ...]]:
    """One row per rung, for the terminal and the report; empty if there are too few controls."""
    return [(f"{rung.level:g}", str(rung.controls), str(rung.tau), str(rung.retention)) for rung in audit.rungs]
