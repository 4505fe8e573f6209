"""The answer in ten seconds: what was found, whether it is real, and the command to type next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from hpo.ledger.records import StudyRecord
from hpo.results.confirmation import Confirmation, confirmation
from hpo.results.confirmation_text import certainty, points
from hpo.results.inference.max_t import FEWEST
from hpo.results.progress import Step, continuing, next_steps
from hpo.text import short_names
from reports.analysis.answer import Answer, answer
from reports.figures.scales import word
from reports.page import sentences
from reports.page.models import models_section

Verdict: TypeAlias = Literal["clear", "within noise", "not confirmed"]
MOST_VALUES = 6
"""So many parameters are named at the top; the table below has all of them."""


@dataclass(frozen=True)
class Finding:
    """What a report says first about one study."""

    found: str
    configuration: str
    """The best configuration in one line; empty while no trial is complete."""
    verdict: Verdict | None
    """Whether the result is more than chance; None while no trial is complete."""
    why: str
    """What the verdict follows from, as a sentence; empty without one."""
    step: Step | None
    """What to do next."""

    @property
    def judged(self) -> str:
        """`Not confirmed: every trial was trained once, so …`; empty while no trial is complete."""
        return f"{self.verdict[0].upper()}{self.verdict[1:]}: {self.why}" if self.verdict else ""

    @property
    def advice(self) -> str:
        """`Rule out luck: retrain with new seeds: hpo confirm cifar10`; empty if there is nothing to do."""
        return f"{self.purpose}: {self.step.command}" if self.step else ""

    @property
    def purpose(self) -> str:
        """What the next command is for."""
        return f"{self.step.purpose[0].upper()}{self.step.purpose[1:]}" if self.step else ""

    def lines(self) -> Iterator[str]:
        """The finding for a terminal."""
        yield from filter(None, (self.found, self.judged, f"Next: {self.advice}" if self.advice else ""))


def finding(result: Answer, home_option: str = "") -> Finding:
    """Judge the result of a study; `home_option` is `hpo.home.Home.option`."""
    verdict, why = _judge(result) if result.winner else (None, "")
    return Finding(
        sentences.headline(result), _configuration(result), verdict, why, _next(result, verdict, home_option)
    )


def _configuration(result: Answer) -> str:
    if result.best is None:
        return ""
    values = result.best.values
    short = short_names(values)
    parts = [f"{short[name]} = {word(value)}" for name, value in values.items()]
    more = f", and {len(parts) - MOST_VALUES} more below" if len(parts) > MOST_VALUES else ""
    return ", ".join(parts[:MOST_VALUES]) + more


def _judge(answer: Answer) -> tuple[Verdict, str]:
    result = confirmation(answer.study)
    if result is None:
        return "not confirmed", _of_search(answer)
    if not result.complete:
        ended = f"{result.done} of {result.planned} trainings of the confirmation have ended"
        return "not confirmed", f"{ended}."
    if result.chosen is None:
        return "not confirmed", "every configuration failed with at least one seed of the confirmation."
    return _of_confirmation(result)


def _of_search(answer: Answer) -> str:
    """Why the result of a search alone may be luck."""
    gain, name = answer.gain, answer.study.spec.baseline_name
    once = "each trial was trained once"
    if answer.winner and answer.winner.is_baseline:
        return f"{once}, so another configuration may still be better than the {name}."
    if gain is None:
        return f"{once}, so the best trial may owe its place to luck."
    if gain.within_noise:
        return f"{once}, and the difference to the {name} is within noise."
    if gain.within_noise is None:
        return f"{once}, and the noise between two trainings is not known."
    return f"the difference to the {name} is more than noise, but {once}, and the best of many is partly luck."


def _of_confirmation(result: Confirmation) -> tuple[Verdict, str]:
    """The verdict over the new seeds: by the gain over the baseline, without a baseline by the other configurations."""
    chosen, name = result.chosen, result.baseline_name
    assert chosen is not None
    seeds = len(chosen.accuracies)
    if chosen.baseline:
        return "within noise", f"over {seeds} new seeds nothing is better than the {name} by more than chance."
    if result.gain is not None:
        size = f"{points(result.gain, result.objective)} over the {name}, from {seeds} new seeds"
        return ("clear" if result.gain.low > 0 else "within noise"), f"{size}."
    if seeds < FEWEST:
        return "not confirmed", f"the noise is not known, because an interval needs {FEWEST} seeds."
    sure = f"{certainty(result)}."
    if result.compared < 2:
        return "not confirmed", sure
    return ("within noise" if any(one.tied for one in result.ranking if one is not chosen) else "clear"), sure


def _next(answer: Answer, verdict: Verdict | None, home_option: str) -> Step | None:
    """The one command that helps most now."""
    study, more = answer.study, continuing(answer.study, home_option)
    if study.driver == "open":
        return Step.of("watch the running study", f"status {study.name}", home_option, "--watch")
    if verdict is None or (more and not study.ended):
        return more
    result = confirmation(study)
    if verdict == "clear":
        (export,) = (step for step in next_steps(study, home_option) if step.command.endswith("-o best.yaml"))
        return export
    if result is None or not result.complete or result.chosen is None:
        return Step.of("rule out luck: retrain with new seeds", f"confirm {study.name}", home_option)
    if result.compared < 2:
        return more
    seeds = max(FEWEST, 2 * len(result.chosen.accuracies))
    return Step.of("narrow the interval with more seeds", f"confirm {study.name}", home_option, f"--seeds {seeds}")


def brief(studies: Sequence[StudyRecord], home_option: str = "") -> Iterator[str]:
    """The answer in a few lines for a terminal; several studies are compared first."""
    answers = [answer(study) for study in studies]
    if len(answers) > 1:
        yield sentences.verdict(answers)
    for one in answers:
        name = f"{one.study.name}: " if len(answers) > 1 else ""
        yield from (f"{name}{line}" for line in finding(one, home_option).lines())
        models = models_section(one.study)
        yield from (f"{name}{line}" for line in (models.answers if models else ()))
