"""The section "Which model for your budget": a sentence for each kind of cost, its cautions, and a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hpo.ledger.records import StudyRecord
from hpo.redact import redact
from hpo.results.intervals import wilson
from hpo.results.winner import validation_images
from reports.analysis.models import COSTS, Candidate, Cost, Step, candidates, machines, of_best, steps, uneven, worth_it


@dataclass(frozen=True)
class Models:
    """The section about one study."""

    study: str
    answers: tuple[str, ...]
    """One for the multiply-accumulates, one for the seconds of training; fewer where a cost is not known."""
    cautions: tuple[str, ...]
    """How far the answers can be trusted."""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    json: tuple[dict[str, Any], ...]
    """The rows for programs."""


def models_section(study: StudyRecord) -> Models | None:
    """The section; None if all trials have one model."""
    found = candidates(study)
    if not found:
        return None
    fronts = {of: steps(study, found, of) for of in COSTS}
    answers = tuple(_answer(study, of, front) for of, front in fronts.items() if front)
    if not answers:
        answers = ("No trial is complete, so there is no answer yet.",)
    return Models(
        study.name,
        answers,
        tuple(_cautions(study, found)),
        _columns(study, found),
        tuple(_row(study, one, fronts, confirmed=_any_confirmed(found)) for one in found),
        tuple(_json(study, one, fronts) for one in found),
    )


# -------------------------------------------------------------------------------------------------- the answer

_OF = {"macs": "multiply-accumulates per image", "seconds": "training"}


def _answer(study: StudyRecord, of: Cost, front: Sequence[Step]) -> str:
    """`By training: below 62 s take A (79.10 %), which needs 31 s; from 62 s on, B (84.20 %, +5.10 points).`"""
    first, *others = worth = worth_it(study, front)
    chosen = [step.candidate for step in worth]
    doubtful = [step for step in front if step.candidate not in chosen]
    if not others:
        needs = f", which needs {_amount(of, first.cost)}" if doubtful else ""
        text = f"take {_named(study, first)} for any budget{needs}"
        better = "clearly better" if doubtful else "better"
        return f"By {_OF[of]}: {text}; no dearer model is {better}.{_doubts(study, of, doubtful)}"
    parts = [f"below {_amount(of, others[0].cost)} take {_named(study, first)}, which needs {_amount(of, first.cost)}"]
    parts += [f"from {_amount(of, step.cost)} on, {_named(study, step)}" for step in others]
    return f"By {_OF[of]}: {'; '.join(parts)}.{_doubts(study, of, doubtful)}"


def _doubts(study: StudyRecord, of: Cost, doubtful: Sequence[Step]) -> str:
    """The models whose lead over a cheaper one may be chance, in a sentence."""
    show = study.spec.objective.show_score
    named = [
        f"{redact(step.candidate.name)} ({show(step.candidate.score)}, {_amount(of, step.cost)})" for step in doubtful
    ]
    return f" The lead of {_listed(named)} over a cheaper model is within noise." if named else ""


def _named(study: StudyRecord, step: Step) -> str:
    """A model with its score and, if it is not the cheapest, its lead over the one before it in the sentence."""
    parts = [study.spec.objective.show_score(step.candidate.score)]
    if step.lead:
        parts.append(step.lead.objective.show_gain(step.lead.value))
        parts += ["the noise is unknown"] if step.lead.within_noise is None else []
    return f"{redact(step.candidate.name)} ({', '.join(parts)})"


def _amount(of: Cost, value: float) -> str:
    return millions(value) if of == "macs" else f"{value:,.0f} s"


def millions(value: float) -> str:
    """`63.4 million`; three digits, or all of the millions."""
    share = value / 1e6
    return f"{share:,.0f} million" if share >= 100 else f"{share:.3g} million"


# ------------------------------------------------------------------------------------------------ its cautions


def _cautions(study: StudyRecord, found: Sequence[Candidate]) -> Iterator[str]:
    done = [one for one in found if one.best]
    if done:
        yield _few(done)
    if missing := [redact(one.name) for one in found if not one.best]:
        yield (
            f"Nothing is known of {_listed(missing)}: no trial of {'it' if len(missing) == 1 else 'them'} is complete."
        )
    begun = of_best(study, done)
    yield from _weights(begun)
    if len(sizes := {size for _, _, size in begun}) > 1:
        yield f"The models are evaluated at different image sizes, {_listed([str(size) for size in sorted(sizes)])} px."
    places = machines(done)
    if len(places) > 1:
        yield f"The seconds are from {len(places)} kinds of workers, so they cannot be compared exactly."
    elif ends := uneven(found):
        yield (
            f"Epochs of one model and one image size took {ends[0]:,.0f} to {ends[1]:,.0f} s, so other work slowed the "
            "machine: the seconds, and the answer by training, are rough."
        )


def _few(done: Sequence[Candidate]) -> str:
    counts = sorted(len(one.complete) for one in done)
    number = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    return (
        f"Each model is judged by the best of its complete trials, {number} of each. Every trial was trained once, so "
        "a model with more trials has a better best trial by luck alone. Pruned trials do not count."
    )


def _weights(begun: Sequence[tuple[Candidate, bool | str, int]]) -> Iterator[str]:
    """What the models began with, if that is not the same kind for all, or if it is nothing."""
    trained = [redact(one.name) for one, weights, _ in begun if weights is not False]
    random = [redact(one.name) for one, weights, _ in begun if weights is False]
    if random and trained:
        yield (
            f"{_listed(trained)} began with pretrained weights, {_listed(random)} with random ones. So the difference "
            "is one of weights first, and says little of the architectures."
        )
    elif random:
        yield "All models began with random weights. Which is best from pretrained weights, this study does not say."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# --------------------------------------------------------------------------------------------------- the table


def _any_confirmed(found: Sequence[Candidate]) -> bool:
    return any(one.confirmed is not None for one in found)


def _columns(study: StudyRecord, found: Sequence[Candidate]) -> tuple[str, ...]:
    interval = " (95 % interval)" if validation_images(study) else ""
    return (
        "model",
        f"best {study.spec.objective.column}{interval}",
        *(["over new seeds"] if _any_confirmed(found) else []),
        "trial",
        "complete / trials",
        "parameters",
        "MACs per image",
        "s per epoch",
        "s of training",
        "a choice by",
    )


def _row(study: StudyRecord, one: Candidate, fronts: dict[Cost, list[Step]], *, confirmed: bool) -> tuple[str, ...]:
    show = study.spec.objective.show_score
    seconds = one.epoch_seconds
    return (
        redact(one.name),
        f"{show(one.score)}{_interval(study, one)}",
        *([show(one.confirmed)] if confirmed else []),
        str(one.best.number) if one.best else "–",
        f"{len(one.complete)} / {len(one.trials)}",
        millions(one.params) if one.params is not None else "–",
        millions(one.macs) if one.macs is not None else "–",
        f"{seconds:,.1f}" if seconds is not None else "–",
        f"{one.seconds:,.0f}" if one.seconds is not None else "–",
        " and ".join({"macs": "MACs", "seconds": "seconds"}[of] for of in _choice(one, fronts)) or "–",
    )


def _interval(study: StudyRecord, one: Candidate) -> str:
    images = validation_images(study)
    if not images or one.score is None:
        return ""
    ends = wilson(one.score, images)
    return f" ({100 * ends.low:.1f} to {100 * ends.high:.1f})"


def _choice(one: Candidate, fronts: dict[Cost, list[Step]]) -> list[Cost]:
    return [of for of, front in fronts.items() if any(step.candidate is one for step in front)]


def _json(study: StudyRecord, one: Candidate, fronts: dict[Cost, list[Step]]) -> dict[str, Any]:
    score = study.spec.objective.score
    return {
        "model": one.name,
        "best": one.best.number if one.best else None,
        "value": None if one.score is None else score(one.score),
        "confirmed_value": None if one.confirmed is None else score(one.confirmed),
        "trials": len(one.trials),
        "complete": len(one.complete),
        "params": one.params,
        "macs": one.macs,
        "seconds_per_epoch": one.epoch_seconds,
        "training_seconds": one.seconds,
        "choice_by": _choice(one, fronts),
    }


NOTE = (
    "MACs: multiply-accumulates of the forward pass of one image at the evaluation size. s per epoch: median over all "
    "of the model's epochs, with evaluation; s of training: the whole training of the best trial. A choice by: no "
    "cheaper model of this table has as high a value, noise aside."
)
