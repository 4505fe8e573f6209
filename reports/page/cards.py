"""The cards of a report: one number each, with a note that says what it is based on."""

from __future__ import annotations

from dataclasses import dataclass

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.redact import redact
from hpo.results.confirmation import Confirmation
from hpo.results.confirmation_text import interval_range
from hpo.results.gpu_hours import DEFINITION, confirmation_cost
from hpo.results.warm_start_effect import best_by_origin, effect
from hpo.results.winner import Gain
from hpo.text import duration
from reports.analysis.answer import Answer, TestAccuracy
from reports.analysis.stages import Stages
from reports.page.sentences import signed


@dataclass(frozen=True)
class Card:
    """One number of a study."""

    label: str
    value: str
    note: str


def cards(answer: Answer) -> list[Card]:
    """Accuracy, test accuracy, gain, cost and savings; after a warm start also its effect."""
    return [_accuracy(answer), _test(answer), _gain(answer), _cost(answer), _saved(answer), *_warm_start(answer.study)]


def _accuracy(answer: Answer) -> Card:
    best, accuracy, goal = answer.best, answer.accuracy, answer.study.spec.objective
    label = f"{goal.label[0].upper()}{goal.label[1:]}" if goal.is_accuracy else goal.label
    if best is None:
        return Card(label, "–", "no trial is complete")
    if accuracy is None and answer.confirmed and answer.confirmed.chosen:
        note = f"no interval: it needs three seeds; {_confirmed(answer)}"
        return Card(label, goal.show_score(answer.confirmed.chosen.mean), note)
    if accuracy is None:
        unknown = "the number of validation images is not recorded" if goal.is_accuracy else "its noise is not known"
        return Card(label, goal.show_score(best.value), f"no interval: {unknown}")
    interval = f"95 % interval {interval_range(accuracy, goal)}{' %' if goal.is_accuracy else ''}"
    source = _confirmed(answer) if answer.confirmed else f"measured on {answer.images:,} validation images"
    return Card(label, goal.show_score(accuracy.mean), f"{interval}; {source}")


def _confirmed(answer: Answer) -> str:
    value = answer.study.spec.objective.show_score(answer.best.value if answer.best else None)
    return f"mean over the new seeds of the confirmation; the trial had {value} in the search"


def _test(answer: Answer) -> Card:
    label = "Test accuracy"
    test = answer.test
    spec = answer.study.spec
    if test is None and not spec.shipped:
        return Card(label, "–", f"not measured: hpo retrain, which measures it, does not support {spec.trainer}")
    if test is None and answer.best is None:
        return Card(label, "–", "no trial is complete")
    if test is None:
        return Card(label, "–", "not measured yet: export and retrain the best trial, by the commands below")
    trial = f"trial {test.trial}" if test.trial is not None else "an exported configuration"
    if test.deviation is None:
        value, seeds = f"{100 * test.accuracy:.2f} %", "one seed"
    else:
        value = f"{100 * test.accuracy:.2f} ± {100 * test.deviation:.2f} %"
        seeds = f"mean ± standard deviation of {test.seeds} seeds"
    return Card(label, value, f"{trial} retrained, {seeds}{_test_gap(answer, test)}")


def _test_gap(answer: Answer, test: TestAccuracy) -> str:
    """The difference to the validation accuracy, where both belong to the same trial."""
    if answer.best is None or test.trial != answer.best.number:
        return ""
    confirmed = answer.confirmed.chosen if answer.confirmed else None
    validation = confirmed.mean if confirmed else answer.best.value
    mean = "mean " if confirmed else ""
    return f"; {signed(test.accuracy - validation)} points against {mean}validation accuracy" if validation else ""


def _gain(answer: Answer) -> Card:
    name, goal = answer.study.spec.baseline_name, answer.study.spec.objective
    label = f"Gain over the {name}"
    baseline, gain = answer.baseline, answer.gain
    if baseline is None:
        enqueued = bool(answer.study.spec.enqueue)
        return Card(
            label, "–", "the baseline has not started" if enqueued else "no baseline: the study enqueues no trial"
        )
    if answer.winner and answer.winner.is_baseline:
        nothing = "0 points" if goal.is_accuracy else "0"
        return Card(label, nothing, f"the baseline (trial {baseline.number}) is the best trial")
    if gain is None:
        return Card(label, "–", _no_gain(answer, baseline))
    own = goal.show_score(_baseline_accuracy(answer.confirmed, baseline))
    return Card(label, str(gain), f"{_gain_interval(answer)}trial {baseline.number} has {own}")


def _no_gain(answer: Answer, baseline: TrialRecord) -> str:
    if answer.winner is None:
        return "no trial is complete"
    ended = "failed with a seed of the confirmation" if answer.confirmed else "is not complete"
    return f"the baseline (trial {baseline.number}) {ended}"


def _baseline_accuracy(confirmation: Confirmation | None, baseline: TrialRecord) -> float | None:
    if confirmation is None:
        return baseline.value
    return confirmation.baseline.mean if confirmation.baseline else None


def _ends(gain: Gain) -> str:
    assert gain.interval is not None
    if gain.objective.is_accuracy:
        return f"{signed(gain.interval.low)} to {signed(gain.interval.high)}"
    values = gain.interval.in_units_of(gain.objective)
    return f"{values.low:+.3g} to {values.high:+.3g}"


def _gain_interval(answer: Answer) -> str:
    if answer.gain is None or answer.gain.interval is None:
        return ""
    interval = f"95 % interval {_ends(answer.gain)}"
    if answer.confirmed is not None:
        return f"{interval}, paired by seed; "
    if answer.images is None:
        return f"{interval}, from the noise of the trainings; "
    return f"{interval} (too wide, because it ignores that both trials were scored on the same images); "


def _cost(answer: Answer) -> Card:
    cost = answer.cost
    gpu = f"{cost.gpu_hours:,.2f} GPU-hours ({DEFINITION}); " if cost.gpu_hours else ""
    extra = confirmation_cost(answer.study)
    confirmation = f"; the confirmation took {extra} more" if extra else ""
    return Card(
        "Cost in worker time (h:min:s)",
        duration(cost.time.busy),
        f"{gpu}{plural(cost.started, 'trial')}, {plural(cost.epochs, 'epoch')}; "
        f"{duration(cost.time.wall)} of study time, at most {cost.time.slots} at once{confirmation}",
    )


def _saved(answer: Answer) -> Card:
    label = "Saved by pruning"
    cost = answer.cost
    pruned = answer.study.count("pruned")
    if not pruned:
        return Card(label, "0 %", "no trial was pruned")
    sizes = " and its later image sizes" if Stages(answer.study).reported else ""
    return Card(
        label,
        f"{100 * cost.saved_share:.0f} %",
        f"{plural(pruned, 'pruned trial')} did not train {plural(cost.saved_epochs, 'epoch')}: about "
        f"{duration(cost.saved_seconds)} of worker time, estimated from each trial's speed{sizes}",
    )


def _warm_start(study: StudyRecord) -> list[Card]:
    if not study.transfer.sources:
        return []
    comparison = effect(study)
    best = ", ".join(
        f"{trial.origin.kind} {study.spec.objective.show_score(trial.value)} (trial {trial.number})"
        for trial in best_by_origin(study)
        if trial.origin is not None
    )
    parts = [str(comparison)] if comparison else []
    parts += [f"best complete trials by origin: {best}"] if best else []
    parts += ["; ".join(redact(str(source)) for source in study.transfer.sources)]
    return [Card("Warm start", comparison.verdict if comparison else "history only", ". ".join(parts))]


def plural(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
