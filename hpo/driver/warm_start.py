"""Warm start: read earlier studies and exported configurations, translate them into a new study's space, and choose.

Settings that an earlier study did not search are taken from its fixed settings. So a study of another model or data
set, or with another space, can be used: those of its trials count that lie inside the new space.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import search_spaces
from hpo.errors import UsageError
from hpo.home import Home
from hpo.ledger.reader import load_study, study_names
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.tables.renaming import called_before
from hpo.ledger.transfer import Past, Source, Transfer, thinned
from hpo.spec.configure import configure
from hpo.spec.corners import describe
from hpo.spec.enqueued import parts
from hpo.spec.parameters import CategoricalParameter, Choice, FloatParameter, Parameter, close_to, same
from hpo.spec.paths import names_a_file
from hpo.spec.study import Spec
from hpo.sqlite_urls import sqlite_file
from hpo.validation.loader import load_training
from hpo.validation.settings import EXTRA
from trainers import schedule
from trainers.api import TrialConfig

MOST_TRIALS = 200
"""Trials of one study that are kept as history; of a larger study, an even sample."""
PROGRESSIVE = "train.progressive."


@dataclass(frozen=True)
class _Offer:
    """A configuration that fits, and its result."""

    past: Past
    epochs: int
    value: float

    @property
    def rank(self) -> tuple[float, int]:
        """Better configurations sort first."""
        return -self.value, self.past.trial or 0


class _Misfit(Exception):
    """The reason why a configuration does not lie in the space."""


def gather(spec: Spec, home: Home) -> Transfer:
    """What the studies and files of `warm_start` give to the study `spec`.

    Args:
        home: studies are looked up by name here, and in the new study's own ledger.

    Raises:
        UsageError: there is no such study, a file cannot be read, or no configuration of a source fits the space.
        InfrastructureError: a ledger cannot be opened.
    """
    gathered = [_offers(name, spec, home) for name in dict.fromkeys(spec.warm_start)]
    first = _first([offers for _, offers in gathered], spec)
    single = len(spec.objectives) == 1  # a history of accuracies would mislead about the other objectives
    sources = [
        dataclasses.replace(
            source,
            enqueued=sum(past.source == source.name for past in first),
            history=sum(bool(offer.past.curve) for offer in offers) if single else 0,
        )
        for source, offers in gathered
    ]
    history = [offer.past for _, offers in gathered for offer in offers if offer.past.curve]
    return Transfer(tuple(sources), tuple(first), tuple(history) if single else ())


def _first(offers: Sequence[Sequence[_Offer]], spec: Spec) -> list[Past]:
    """The best configurations, taken from each source in turn; no two are equal, and none is enqueued by the user."""
    ranked = [sorted(_longest(source), key=lambda offer: offer.rank) for source in offers]
    chosen: list[Past] = []
    own = [parts(configuration, spec.space) for configuration in spec.enqueue]
    enqueued: list[Mapping[str, Choice]] = [given.values for given in own if not given.settings]
    for place in range(max(map(len, ranked), default=0)):
        for source in ranked:
            if place < len(source) and len(chosen) < spec.search.transferred:
                past = source[place].past
                if not any(_equal(past.values, other) for other in enqueued):
                    enqueued.append(past.values)
                    chosen.append(past)
    return chosen


def _longest(offers: Sequence[_Offer]) -> list[_Offer]:
    """The complete trials of a study; if it has none yet, those that it trained longest."""
    most = max((offer.epochs for offer in offers), default=0)
    return [offer for offer in offers if offer.epochs == most]


def _equal(a: Mapping[str, Choice], b: Mapping[str, Choice]) -> bool:
    return a.keys() == b.keys() and all(close_to(value, b[name]) for name, value in a.items())


# ------------------------------------------------------------------------------------------- the sources


def _offers(name: str, spec: Spec, home: Home) -> tuple[Source, list[_Offer]]:
    """The source, and its configurations that fit.

    Raises:
        UsageError: see `gather`.
    """
    study = _study(name, spec, home)
    misfits: Counter[str] = Counter()
    offers = list(_of_study(study, spec, misfits, home) if study else _of_file(name, spec, misfits))
    count = sum(misfits.values()) + len(offers)
    if not offers:
        reasons = "\n".join(f"  {number} left out: {reason}" for reason, number in misfits.most_common())
        raise UsageError(
            f"warm_start: no configuration of {name} fits the space of {spec.study}:\n"
            f"{reasons or '  it has no trial'}\n"
            f"Widen the space to include them, or remove {name} from warm_start"
        )
    source = Source(name, count, 0, 0, dict(misfits.most_common()))
    return source, offers if len(offers) <= MOST_TRIALS else _sample(offers)


def _sample(offers: list[_Offer]) -> list[_Offer]:
    """The best configuration and an even sample of the others."""
    ordered = sorted(offers, key=lambda offer: (-offer.epochs, *offer.rank))
    return [ordered[index * len(ordered) // MOST_TRIALS] for index in range(MOST_TRIALS)]


def _study(name: str, spec: Spec, home: Home) -> StudyRecord | None:
    """The study of that name; None if the name is that of a file or of a shipped recipe."""
    if names_a_file(name):
        return None
    studies: list[str] = []
    for url in dict.fromkeys(filter(None, (home.ledger_of(name), spec.storage.ledger))):
        file = sqlite_file(url)
        if file is not None and not file.is_file():
            continue  # opening would create it
        ledger = open_storage(url)
        studies += study_names(ledger)
        for now in [name] if name in studies else called_before(ledger, name):
            return load_study(ledger, now)
    if name in search_spaces.recipes():
        return None
    raise UsageError(
        f"warm_start: {name} is neither a study nor a file; studies: {', '.join(sorted(set(studies))) or 'none yet'}. "
        f"Name one of them, or a file written by `hpo export`"
    )


def _of_study(study: StudyRecord, spec: Spec, misfits: Counter[str], home: Home) -> Iterator[_Offer]:
    if study.spec.objective != spec.objective:
        file = home.command(f"export {study.name}", "-o best.yaml")
        raise UsageError(
            f"warm_start: {study.name} optimised {study.spec.objective.label}, and {spec.study} optimises "
            f"{spec.objective.label}; remove it from warm_start, or name the file that `{file}` writes"
        )
    other = _other_choices(study.spec, spec)
    for trial in study.trials:
        if trial.status == "failed" or not trial.epochs:
            misfits["failed there" if trial.status == "failed" else "not trained there yet"] += 1
            continue
        try:
            _same_choices(trial, other)
            config = configure(study.spec.base(), trial.values)
            curve = {epoch.metrics.epoch: epoch.value for epoch in trial.epochs}
            past = Past(
                source=study.name,
                trial=trial.number,
                values=_translate(config, spec),
                horizon=study.spec.train.epochs,
                curve={epoch: curve[epoch] for epoch in thinned(sorted(curve))},
            )
            yield _Offer(past, len(curve), trial.value or 0.0)
        except _Misfit as misfit:
            misfits[str(misfit)] += 1


def _of_file(name: str, spec: Spec, misfits: Counter[str]) -> Iterator[_Offer]:
    training = load_training(name)
    provenance = training.provenance
    horizon = training.train.epochs
    try:
        past = Past(name, provenance.trial if provenance else None, _translate(training.config(), spec), horizon, {})
        yield _Offer(past, horizon, (provenance.val_accuracy if provenance else None) or 0.0)
    except _Misfit as misfit:
        misfits[str(misfit)] += 1


# ---------------------------------------------------------------------------------------- the translation


def _other_choices(there: Spec, here: Spec) -> dict[str, Choice]:
    """The choices that the source searched and this study fixes, with their values here.

    With another choice the other settings mean something else: a learning rate belongs to its optimiser. The model may
    differ.
    """
    base = here.base()
    return {
        name: _setting(base, name)
        for name, parameter in there.space.items()
        if isinstance(parameter, CategoricalParameter)
        and name not in here.space
        and not name.startswith(("model.", EXTRA))
    }


def _same_choices(trial: TrialRecord, fixed: Mapping[str, Choice]) -> None:
    if trial.settings:
        raise _Misfit("it has settings outside the space there")
    for name, value in trial.values.items():
        if name in fixed and not same(value, fixed[name]):
            raise _Misfit(f"{name} was {value} there and is fixed at {fixed[name]} here")


def _translate(config: TrialConfig, spec: Spec) -> dict[str, Choice]:
    """The values that the parameters of `spec` have in `config`. Raises _Misfit if `config` lies outside the space."""
    values: dict[str, Choice] = {}
    for name, parameter in spec.space.items():
        if parameter.is_active(values):
            values[name] = _value(name, parameter, config)
    try:
        here = configure(spec.base(), values)
    except ValueError as error:
        raise _Misfit(str(error)) from error
    for name in spec.space:
        if name not in values:
            _same_training(name, config, here)
    return values


def _same_training(name: str, there: TrialConfig, here: TrialConfig) -> None:
    """Raises _Misfit if an inactive parameter had another value there that had an effect: the result then belongs to a
    configuration that this study cannot express."""
    own, fixed = _setting_or_none(there, name), _setting_or_none(here, name)
    if not same(own, fixed) and not (name.startswith(PROGRESSIVE) and _one_stage(there, {name: fixed})):
        raise _Misfit(f"{name} is inactive and stays at {fixed} here, but had another value there")


def _one_stage(config: TrialConfig, changes: Mapping[str, Choice]) -> bool:
    """Whether `config` trains in one stage, and `changes` to its ramps do not change that stage."""
    if config.train.progressive.stages > 1:
        return False
    changed = configure(config, changes).train
    plan = schedule.stages(config.train.progressive, changed.epochs)
    return schedule.stages(changed.progressive, changed.epochs) == plan


def _value(name: str, parameter: Parameter, config: TrialConfig) -> Choice:
    try:
        value = _setting(config, name)
    except KeyError:
        raise _Misfit(f"it has no setting {name}") from None
    if not parameter.contains(value):
        raise _Misfit(f"{name} lies outside the space: must be {describe(parameter)}")
    return float(value) if isinstance(parameter, FloatParameter) and value is not None else value


def _setting_or_none(config: TrialConfig, path: str) -> Any:
    try:
        return _setting(config, path)
    except KeyError:
        return None


def _setting(config: TrialConfig, path: str) -> Any:
    """The setting at a dotted path. Raises KeyError if there is none."""
    part: Any = config
    for name in path.split("."):
        part = part[name] if isinstance(part, Mapping) else getattr(part, name)
    return part
