"""The answer in words, the same for HTML and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.redact import redact
from hpo.results.summary import counts
from hpo.results.warm_start_effect import best_by_origin, effect
from hpo.text import percent
from reports.analysis.answer import Answer
from reports.analysis.intervals import difference
from reports.figures.scales import scales, short_names, word
from reports.figures.workers import duration

CONFIRMED = (
    "The accuracy is of trainings with fresh seeds, so the choice among many trials has hardly flattered it; "
    "they share the validation images with the search, and the test accuracy after retraining does not."
)
SELECTION = (
    "The best of many trials, chosen on the validation images it is scored on, looks better than it is; "
    "the test accuracy after retraining does not have this bias."
)


@dataclass(frozen=True)
class Card:
    """One figure of merit."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Row:
    """One parameter of the best configurations."""

    name: str
    cells: tuple[str, ...]


def headline(found: Answer) -> str:
    """One sentence that answers what the study was run for."""
    study = found.study
    if not study.trials:
        return "No trial has been started yet."
    if found.best is None:
        failed = study.count("failed")
        if failed and failed == sum(trial.started for trial in study.trials):
            who = "the only trial failed" if failed == 1 else f"all {failed} trials failed, the first of them"
            return f"No result: {who} with: {_first_reason(study)}"
        return f"No trial is complete yet ({counts(study)})."
    if found.confirmed is not None and found.accuracy is not None:
        seeds = found.confirmed.chosen and len(found.confirmed.chosen.accuracies)
        text = f"Trial {found.best.number} is confirmed: {percent(found.accuracy.value)} mean validation accuracy "
        text += f"over {seeds} fresh seeds"
        if found.best is found.baseline:
            return f"{text}. It is the default recipe; nothing is better by more than chance, or as good and cheaper."
    else:
        text = f"Trial {found.best.number} is best: {percent(found.best.value)} validation accuracy"
    if found.best is found.baseline:
        only = sum(trial.complete for trial in study.trials) == 1
        return f"{text}. It is the default recipe{' and the only complete trial' if only else '; nothing beat it'}."
    points = found.gain_points
    if points is None:
        return f"{text}."
    sure = " (the interval includes zero)" if found.gain and not found.gain.significant else ""
    return f"{text}, {abs(points):.2f} points {'above' if points >= 0 else 'below'} the default recipe{sure}."


def _first_reason(study: StudyRecord) -> str:
    reasons = [trial.outcome.reason for trial in study.trials if trial.status == "failed" and trial.outcome]
    return redact(next(iter(reasons[0].splitlines()), ""))[:200]


def state(study: StudyRecord) -> str:
    """What the study is, and whether it goes on."""
    spec = study.spec
    going = study.count("running") + study.count("interrupted")
    on = f" Not finished: {going} running or interrupted." if going else ""
    on += f" Ended by {study.ended}." if study.ended else ""
    return f"{spec.model.name} on {spec.data.name}, {spec.train.epochs} epochs at full length; {counts(study)}.{on}"


def cards(found: Answer) -> list[Card]:
    """Accuracy, test accuracy, gain, cost, savings, and what a warm start brought."""
    return [_accuracy(found), _test(found), _gain(found), _cost(found), _saved(found), *_warm_start(found.study)]


def _accuracy(found: Answer) -> Card:
    label = "Validation accuracy"
    if found.best is None:
        return Card(label, "–", "no complete trial")
    if found.confirmed is not None and found.accuracy is not None:
        interval = _range(found.accuracy.low, found.accuracy.high)
        note = f"95 % interval {interval}: Student's, over the fresh seeds of the confirmation; in the search the "
        return Card(label, percent(found.accuracy.value), f"{note}trial had {percent(found.best.value)}")
    if found.accuracy is None:
        return Card(label, percent(found.best.value), "no interval: the number of validation images is not recorded")
    return Card(
        label,
        percent(found.accuracy.value),
        f"95 % interval {_range(found.accuracy.low, found.accuracy.high)}: Wilson's, for the sampling of "
        f"{found.images:,} validation images",
    )


def _test(found: Answer) -> Card:
    label = "Test accuracy"
    test = found.test
    if test is None:
        return Card(label, "–", "not measured yet: export and retrain, see below")
    spread = f" ± {100 * test.deviation:.2f}" if test.deviation is not None else ""
    value = f"{100 * test.accuracy:.2f}{spread} %"
    seeds = f"mean ± standard deviation of {test.seeds} seeds" if test.deviation is not None else "one seed"
    whose = f"trial {test.trial}" if test.trial is not None else "an exported configuration"
    gap = ""
    if found.best is not None and test.trial == found.best.number:
        validation = found.accuracy.value if found.confirmed and found.accuracy else found.best.value
        mean = "mean " if found.confirmed else ""
        gap = f"; {signed(test.accuracy - validation)} points against {mean}validation" if validation else ""
    return Card(label, value, f"{whose} retrained, {seeds}{gap}")


def _gain(found: Answer) -> Card:
    label = "Gain over the default recipe"
    baseline, points = found.baseline, found.gain_points
    if baseline is None:
        why = "it has not begun" if found.study.spec.enqueue else "the study has none: nothing is enqueued"
        return Card(label, "–", why)
    if points is None:
        return Card(label, "–", f"the default recipe (trial {baseline.number}) or the best is not complete")
    if found.best is baseline:
        return Card(label, "0 points", f"the default recipe (trial {baseline.number}) is the best trial")
    interval = ""
    if found.confirmed is not None and found.gain is not None:
        recipe = found.confirmed.baseline and found.confirmed.baseline.interval
        note = f"95 % interval {signed(found.gain.low)} to {signed(found.gain.high)}: Student's, paired by fresh seed; "
        return Card(
            label,
            f"{signed(points / 100)} points",
            f"{note}trial {baseline.number} has {percent(recipe.mean if recipe else None)}",
        )
    if found.gain is not None:
        interval = f"95 % interval {signed(found.gain.low)} to {signed(found.gain.high)}: Newcombe's, wide because "
        interval += "it takes the two for measured on different images; "
    return Card(
        label, f"{signed(points / 100)} points", f"{interval}trial {baseline.number} has {percent(baseline.value)}"
    )


def _cost(found: Answer) -> Card:
    cost = found.cost
    gpu = f"{cost.gpu_hours:,.1f} GPU-hours; " if cost.gpu_hours is not None else ""
    return Card(
        "Cost in worker time",
        duration(cost.time.busy),
        f"{gpu}{plural(cost.started, 'trial')}, {plural(cost.epochs, 'epoch')}; "
        f"{duration(cost.time.wall)} by the clock, at most {cost.time.slots} at once",
    )


def _saved(found: Answer) -> Card:
    cost = found.cost
    pruned = found.study.count("pruned")
    if not pruned:
        return Card("Saved by pruning", "0 %", "no trial was pruned")
    return Card(
        "Saved by pruning",
        f"{100 * cost.saved_share:.0f} %",
        f"about {duration(cost.saved_seconds)} of worker time: {cost.saved_epochs:,} epochs that {pruned:,} pruned "
        "trials did not train, at their own speed and later image sizes",
    )


def _warm_start(study: StudyRecord) -> list[Card]:
    if not study.transfer.sources:
        return []
    found = effect(study)
    verdict = found.verdict if found else "history only"
    sources = "; ".join(redact(str(source)) for source in study.transfer.sources)
    best = ", ".join(
        f"{trial.origin.kind} {percent(trial.value)} (trial {trial.number})"
        for trial in best_by_origin(study)
        if trial.origin is not None
    )
    parts = [str(found)] if found else []
    parts += [f"best complete trials by origin: {best}"] if best else []
    return [Card("Warm start", verdict, ". ".join([*parts, sources]))]


def plural(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def signed(share: float) -> str:
    """A difference of fractions in percentage points, with a typographic minus."""
    return f"{100 * share:+.2f}".replace("-", "−")


def _range(low: float, high: float) -> str:
    return f"{100 * low:.2f} to {100 * high:.2f} %"


def configurations(answers: Sequence[Answer]) -> tuple[list[str], list[Row]]:
    """Header and rows of the best configurations; with one study the default recipe and the range beside it."""
    names = list(dict.fromkeys(name for one in answers for name in one.study.spec.space))
    if len(answers) > 1:
        header = [f"{one.study.name} (trial {one.best.number})" if one.best else one.study.name for one in answers]
        return header, [Row(name, tuple(_cell(one.best, name) for one in answers)) for name in names]
    (found,) = answers
    axes = scales([found.study])
    return (
        ["best", "default recipe", "searched"],
        [Row(n, (_cell(found.best, n), _cell(found.baseline, n), axes[n].describe())) for n in names],
    )


def _cell(trial: TrialRecord | None, name: str) -> str:
    if trial is None:
        return "–"
    return word(trial.values[name]) if name in trial.values else "not used"


def verdict(answers: Sequence[Answer]) -> str:
    """Which of several studies is ahead, and whether that means anything."""
    ranked = sorted((one for one in answers if one.best), key=lambda one: -((one.best and one.best.value) or 0.0))
    if len(ranked) < 2:
        return "Fewer than two of the studies have a complete trial, so there is nothing to compare yet."
    first, second = ranked[:2]
    text = f"{first.study.name} is ahead of {second.study.name}"
    if first.accuracy is None or second.accuracy is None or not first.images or not second.images:
        return f"{text}."
    gap = difference(first.accuracy.value, second.accuracy.value, first.images, second.images)
    text += f" by {100 * gap.value:.2f} points (95 % interval {signed(gap.low)} to {signed(gap.high)}, Newcombe's)."
    if not gap.significant:
        text += " The interval includes zero: their images cannot tell the two apart."
    return text + _warning(answers)


def _warning(answers: Sequence[Answer]) -> str:
    splits = {one.study.info.get("data", {}).get("split_hash") for one in answers}
    data = {one.study.spec.data.name for one in answers}
    lengths = {one.study.spec.train.epochs for one in answers}
    if len(data) > 1:
        return f" They are of different data ({', '.join(sorted(data))}), so accuracies do not compare."
    if len(splits) > 1:
        return " Their validation images differ."
    return " Their full trainings differ in length." if len(lengths) > 1 else ""


def column_names(studies: Sequence[StudyRecord]) -> dict[str, str]:
    """Short names of all parameters of all studies."""
    return short_names(list(dict.fromkeys(name for study in studies for name in study.spec.space)))
