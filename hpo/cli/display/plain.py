"""A running study as plain lines on stderr, and the closing text with the next steps."""

from __future__ import annotations

from collections.abc import Iterator

from hpo.home import command
from hpo.ledger.records import StudyRecord
from hpo.results.confirmation_text import certainty
from hpo.results.gpu_hours import confirmation_cost
from hpo.results.pareto import front
from hpo.results.progress import Step, next_steps
from hpo.results.summary import configuration, counts, stopped
from hpo.results.winner import winner
from hpo.text import duration
from hpo.tracking.runs import tracking_server


def closing(study: StudyRecord, home_option: str) -> str:
    """The closing text of a run: the results and the commands to type next."""
    lines = [f"Study {study.name}: {counts(study)}", f"Wall-clock time: {duration(study.seconds)}"]
    if extra := confirmation_cost(study):
        lines.append(f"The confirmation took {extra} more.")
    lines += _best(study)
    if study.ended:
        lines.append(f"{stopped(study)}.")
    if len(study.spec.objectives) > 1:
        lines.append(f"Pareto front: {len(front(study))} trials. See: {command(f'status {study.name}', home_option)}")
    return "\n".join([*lines, *what_next(study, home_option)])


def _best(study: StudyRecord) -> Iterator[str]:
    best = winner(study)
    if best is None:
        yield "No trial is complete yet."
        return
    trial = f"trial {best.trial.number}"
    if best.confirmation:
        yield f"Confirmed: {trial}, mean {best.objective.label} over new seeds {best.shown}"
    else:
        yield f"Best: {trial}, {best.objective.label} {best.shown}"
    yield from (f"  {path} = {value}" for path, value in configuration(best.trial).items())
    if best.is_baseline:
        yield f"It is the {best.baseline_name}: no other trial is better."
    elif best.gain and best.baseline:
        value = "" if best.confirmation else f", {best.objective.show_score(best.baseline.value)}"
        yield f"Gain over the {best.baseline_name}: {best.gain} (trial {best.baseline.number}{value})"
    if best.confirmation:
        yield f"How sure: {certainty(best.confirmation)}"


def what_next(study: StudyRecord, home_option: str) -> list[str]:
    """The commands to type next, one a line below a title; nothing if there is none."""
    here = study.spec.tracking.enabled and tracking_server(study.spec) is None  # a server has a UI of its own
    ui = [Step.of("browse the trials in MLflow", "ui", home_option)] if here else []
    steps = [*ui, *next_steps(study, home_option)]
    if not steps:
        return []
    width = max(len(step.command) for step in steps)
    return ["Next:", *(f"  {step.command:{width}}   {step.purpose}" for step in steps)]
