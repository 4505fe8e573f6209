"""The sentences at the top of a report: the result of each study, its state, and the comparison of several studies."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hpo.ledger.records import StudyRecord
from hpo.redact import redact
from hpo.results.intervals import difference
from hpo.results.summary import counts, stopped
from hpo.text import first_line, percent
from reports.analysis.answer import Answer

CONFIRMED = (
    "The confirmed accuracy comes from trainings with new seeds, so the choice of the best among many trials hardly "
    "inflates it. These trainings were scored on the same validation images as the search."
)
SELECTION = "The best trial was chosen by the accuracy shown here, so this accuracy is probably a little too high."
MIXED = "An accuracy that is not confirmed is probably a little too high, because the best trial was chosen by it."
TEST_SET = "The test accuracy after retraining does not have this bias: its images were never used in the search."
NO_TRIAL = "No trial has started yet."
NO_FAILURE = "No trial failed and no worker was lost."
CONTROLS = (
    "Controls are trials that ASHA never stops. Rank agreement: 1 means that the order of the controls at the rung is "
    "their final order, 0 means that the two orders are unrelated. Brackets: 95 % intervals."
)
FRONT = (
    "The best compromises: no other complete trial is better than one of these in one objective without being worse in "
    "another. The last section of this page has the command that exports one of them by its place."
)


def headline(answer: Answer) -> str:
    """The result of the study in one sentence."""
    study = answer.study
    if not study.trials:
        return NO_TRIAL
    if answer.best is None:
        return _no_result(study)
    if answer.winner and answer.winner.is_baseline:
        return f"{_best(answer)}. {_baseline_is_best(answer)}"
    gain = answer.gain
    if gain is None:
        return f"{_best(answer)}."
    if not gain.objective.is_accuracy:
        return f"{_best(answer)}, {gain} over the {study.spec.baseline_name}."
    side = "above" if gain.value >= 0 else "below"
    return f"{_best(answer)}, {100 * abs(gain.value):.2f} points {side} the {study.spec.baseline_name}{gain.caution}."


def _no_result(study: StudyRecord) -> str:
    failed = study.count("failed")
    if not failed or failed < sum(trial.started for trial in study.trials):
        return f"No trial is complete yet ({counts(study)})."
    reason = _first_reason(study)
    if failed == 1:
        return f"No result: the only trial failed. The reason: {reason}"
    return f"No result: all {failed} trials failed. The reason of the first: {reason}"


def _first_reason(study: StudyRecord) -> str:
    reasons = [trial.outcome.reason for trial in study.trials if trial.status == "failed" and trial.outcome]
    return first_line(redact(reasons[0]))[:200]


def _best(answer: Answer) -> str:
    assert answer.best is not None
    confirmation, goal = answer.confirmed, answer.study.spec.objective
    label = goal.label
    if confirmation is None or confirmation.chosen is None:
        return f"Trial {answer.best.number} is best: {goal.show_score(answer.best.value)} {label}"
    return (
        f"Trial {answer.best.number} is confirmed: {goal.show_score(confirmation.chosen.mean)} mean {label} "
        f"over {len(confirmation.chosen.accuracies)} new seeds"
    )


def _baseline_is_best(answer: Answer) -> str:
    text = f"It is the {answer.study.spec.baseline_name}"
    if answer.confirmed is not None:
        return f"{text}: no other configuration is better by more than chance."
    if answer.study.count("complete") == 1:
        return f"{text} and the only complete trial."
    return f"{text}; no other trial beat it."


def state(study: StudyRecord) -> str:
    """What was trained, how many trials there are, and whether the study is finished."""
    spec = study.spec
    open_trials = study.count("running") + study.count("interrupted")
    unfinished = f" Not finished: {open_trials} running or interrupted." if open_trials else ""
    reason = f" {text}." if (text := stopped(study)) else ""
    return f"{spec.task}, {spec.train.epochs} epochs per full training; {counts(study)}.{unfinished}{reason}"


def selection(answers: Sequence[Answer]) -> str:
    """How far the best accuracies can be trusted; empty while no trial is complete."""
    if not any(answer.best for answer in answers):
        return ""
    confirmed = [answer.confirmed is not None for answer in answers if answer.best]
    text = CONFIRMED if all(confirmed) else MIXED if any(confirmed) else SELECTION
    return f"{text} {TEST_SET}" if any(answer.study.spec.shipped for answer in answers) else text


def retrained_otherwise(studies: Sequence[StudyRecord]) -> str:
    """The newest retraining of each study that changed the configuration, a sentence each; empty without one."""
    texts = []
    for study in studies:
        changed = [entry for entry in study.info.get("retrainings", ()) if entry.get("changes")]
        for entry in changed[-1:]:
            settings = ", ".join(f"{path}={value}" for path, value in entry["changes"].items())
            texts.append(
                f"Trial {entry['trial']} of {study.name} was also retrained as another configuration than the one that "
                f"the study measured ({redact(settings)}): test accuracy {percent(entry['test_accuracy'])}."
            )
    return " ".join(texts)


def verdict(answers: Sequence[Answer]) -> str:
    """Which of several studies has the best trial, and whether the difference can be chance."""
    ranked = sorted((answer for answer in answers if answer.best), key=_best_value, reverse=True)
    if len(ranked) < 2:
        return "There is nothing to compare yet: fewer than two of the studies have a complete trial."
    first, second = ranked[:2]
    text = f"{first.study.name} is ahead of {second.study.name}{_lead(first, second)}."
    return text + _warning(answers)


def _lead(first: Answer, second: Answer) -> str:
    """By how much, if the number of validation images is known."""
    if not first.images or not second.images:
        return ""
    gap = difference(_best_value(first), _best_value(second), first.images, second.images)
    text = f" by {100 * gap.mean:.2f} points (95 % interval {signed(gap.low)} to {signed(gap.high)})"
    return text if gap.significant else f"{text}. The interval includes zero, so the difference may be chance"


def _best_value(answer: Answer) -> float:
    return answer.winner.accuracy if answer.winner else -math.inf


def _warning(answers: Sequence[Answer]) -> str:
    splits = {answer.study.info.get("data", {}).get("split_hash") for answer in answers}
    specs = [answer.study.spec for answer in answers]
    data = {spec.data.name if spec.shipped else f"that of {spec.trainer}" for spec in specs}
    lengths = {answer.study.spec.train.epochs for answer in answers}
    if len(data) > 1:
        return f" The studies use different data ({', '.join(sorted(data))}), so their accuracies cannot be compared."
    if len(splits) > 1:
        return " The studies use different validation images."
    return " The studies train for different numbers of epochs." if len(lengths) > 1 else ""


def signed(share: float) -> str:
    """A difference of fractions in percentage points, with a typographic minus."""
    return f"{100 * share:+.2f}".replace("-", "−")
