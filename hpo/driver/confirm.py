"""`hpo confirm`: train the best configurations of a study again with new seeds.

A confirmation is a study of its own in the same ledger, and none of its trials is pruned. So it can be resumed like
every study, and the study that it belongs to does not change. It goes in rounds: the first trains every configuration
with two seeds, each further one trains those that may still be the best, and the baseline, with one seed more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from hpo.driver.events import View
from hpo.driver.notify.notifier import Notifier
from hpo.driver.preflight import alone, check_data, continue_with, guard, preflight
from hpo.driver.ray_backend.cluster import how_ray_starts, ray_session
from hpo.driver.ray_backend.slots import plan_slots
from hpo.driver.session import drive
from hpo.errors import UsageError
from hpo.export.incumbent import Incumbent
from hpo.home import Home, confirmation_of
from hpo.ledger.lock import Lease
from hpo.ledger.provenance import BESIDE, provenance
from hpo.ledger.reader import last_holder, load_study, read_study
from hpo.ledger.records import Repeat, StudyRecord, TrialRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.results.best import leaders
from hpo.results.confirmation import dropped_by_race, evaluate, latest
from hpo.search.samplers import study_sampler
from hpo.spec.parameters import Choice
from hpo.spec.seeds import derive_seed
from hpo.spec.study import Asha, Budget, Search, Spec
from hpo.text import first_line
from hpo.tracking.mirror import refresh
from hpo.tracking.process.child import Child

FEWEST_SEEDS = 2
"""One value says nothing about the variation between seeds."""

Planned = tuple[Repeat, Mapping[str, Choice]]
"""A training of a confirmation and its configuration."""


def confirm(
    name: str,
    home: Home,
    *,
    top: int,
    seeds: int,
    view: View,
    say: Callable[[str], None] = lambda text: None,
    verbose: bool = False,
) -> StudyRecord:
    """Train the best `top` configurations and the baseline with `seeds` seeds each, or continue to do so.

    Trainings that are complete are not repeated: a larger `top` or more `seeds` extend a confirmation. Trainings that
    failed are repeated with the same seed, whatever the reason was: a lost node is not the configuration's fault, and
    a configuration that diverges every time fails again.

    Raises:
        UsageError: there is no such study, it has no complete trial, `seeds` is less than 2, or another driver runs it.
        NoTrialSucceeded, InfrastructureError, Interrupted: as `hpo.driver.run.run`.
    """
    refuse_counts(top, seeds)
    folder = home.study(name)
    complete = sum(trial.complete for trial in candidates(read_study(home, name), top))
    if complete < top:
        say(f"{name} has {complete} different complete configurations, not {top}: hpo trains all of them again")
    home.create()
    lease = Lease.here(str(folder))
    farewell = continue_with(f"confirm {name} --top {top} --seeds {seeds}", home)
    with guard(farewell, lease) as signals, alone(folder, lease), Child() as mlflow:
        storage = open_storage(home.ledger_of(name))
        lease.outwait(name, partial(last_holder, storage, name), say)
        study = load_study(storage, name)
        wanted = repeats(study, candidates(study, top), seeds)
        if (most := 1 + max(repeat.index for repeat, _ in wanted)) > seeds:
            say(f"every configuration gets {most} seeds, because some of them already have so many")
        for text in failures(study, wanted):
            say(f"trying again: {text}")
        if (planned := due(study, wanted, retry=True)) or unfinished(study, planned):
            spec = specification(study)
            info = preflight(spec, home, mlflow, say)
            check_data(study, info)
            again = confirmation_of(name)
            dead = lease.outwait(again, partial(last_holder, storage, again), say) if study.repeats else None
            home.study(again).mkdir(exist_ok=True)
            info = provenance() | info | {"identity": study.info.get("identity", "")}
            say(how_ray_starts(spec))
            with ray_session(spec, verbose, lease.token, study.info.get(BESIDE)):
                slots = plan_slots(spec)
                begin: Callable[[StudyRecord], None] = view.begin
                while True:
                    sampler = study_sampler(spec)
                    if study.repeats:
                        ledger = Ledger.open(storage, again, sampler, lease, dead=dead, say=say)
                    else:
                        ledger = Ledger.create(storage, spec, info, sampler, lease, name=again)
                    ledger.plan(planned)
                    ledger.respecify(spec.model_copy(update={"budget": Budget(trials=len(ledger.trials))}))
                    begin(ledger.study)
                    with mlflow:
                        drive(ledger, home, slots, view, signals, verbose, mlflow)
                    mlflow = Child()
                    study, begin = load_study(storage, name), lambda study: None
                    if not (planned := due(study, wanted, retry=False)):
                        break
        study = load_study(storage, name)
        Incumbent(home).update(study)
        notifier = Notifier(study.spec.notify, lambda: study)
        notifier.end(study, None)
        for problem in (refresh(study, home), notifier.close()):
            if problem:
                say(problem)
    return study


def refuse_counts(top: int, seeds: int) -> None:
    """Raises UsageError if so many configurations and seeds make no confirmation."""
    if seeds < FEWEST_SEEDS:
        raise UsageError(f"--seeds {seeds}: an interval needs at least {FEWEST_SEEDS} seeds")
    if top < 1:
        raise UsageError(f"--top {top}: at least one configuration must be confirmed")


def candidates(study: StudyRecord, top: int) -> list[TrialRecord]:
    """The best `top` complete trials of different configurations, the best first, and the baseline.

    The baseline is among them whenever the study has one, whatever its result. It stands for trials that have the same
    configuration.

    Raises:
        UsageError: no trial is complete.
    """
    baseline, different = study.baseline, list[TrialRecord]()
    for trial in leaders(study, len(study.trials)):
        candidate = baseline if baseline is not None and trial.values == baseline.values else trial
        if all(candidate.values != other.values for other in different):
            different.append(candidate)
    best = different[:top]
    return best if baseline is None or baseline in best else [*best, baseline]


def repeats(study: StudyRecord, trials: Sequence[TrialRecord], seeds: int) -> list[Planned]:
    """All trainings that may be needed, seed by seed, so that an interrupted confirmation has the same seeds for all.

    Every configuration gets as many seeds as any of them had before, so that the comparison is fair. A configuration
    that was confirmed before but is not in `trials` keeps its trainings, and is compared over the seeds it shares.
    """
    numbers = {trial.number for trial in trials}
    used = [trial.repeat.index + 1 for trial in study.repeats if trial.repeat and trial.repeat.trial in numbers]
    baseline = study.baseline.number if study.baseline else None
    values = [derive_seed(study.spec.seed, f"confirmation/{index}") for index in range(max([seeds, *used]))]
    return [
        (Repeat(trial.number, index, seed, trial.number == baseline, len(values)), trial.values)
        for index, seed in enumerate(values)
        for trial in trials
    ]


def due(study: StudyRecord, wanted: Sequence[Planned], *, retry: bool) -> list[Planned]:
    """The trainings of the next round of a confirmation, of all that are `wanted`; [] if none is needed any more.

    The first round has two seeds of every configuration, each further one has one more seed of those that the race
    left (`hpo.results.confirmation.dropped_by_race`). Two rounds are never mixed, so that no training is begun that
    the results of a running one could save.

    Args:
        retry: train again what failed; else a configuration that failed with a seed gets no further one.
    """
    waiting = missing(study, wanted, retry=retry)
    last = max(FEWEST_SEEDS - 1, min((repeat.index for repeat, _ in waiting), default=0))
    return [(repeat, values) for repeat, values in waiting if repeat.index <= last]


def missing(study: StudyRecord, wanted: Sequence[Planned], *, retry: bool) -> list[Planned]:
    """All trainings of those that are `wanted` that may still be needed, as far as the race is known.

    Args:
        retry: as in `due`.
    """
    ended = {trial.repeat for trial in latest(study.repeats) if trial.complete}
    failed = {trial.repeat for trial in latest(study.repeats) if trial.status == "failed"}
    left_out = set() if retry else {repeat.trial for repeat in failed if repeat}
    most = 1 + max(repeat.index for repeat, _ in wanted)
    known = evaluate(study.spec, study.repeats).ranking if study.repeats else ()
    dropped = dropped_by_race(known, study.spec.objective, most)
    return [
        (repeat, values)
        for repeat, values in wanted
        if repeat not in ended and repeat.trial not in left_out and repeat.trial not in dropped
    ]


def failures(study: StudyRecord, planned: Sequence[tuple[Repeat, object]]) -> list[str]:
    """The planned trainings whose last attempt failed, with the reason."""
    repeats = {repeat for repeat, _ in planned}
    failed = [trial for trial in latest(study.repeats) if trial.status == "failed" and trial.repeat in repeats]
    return [f"{trial.label} failed: {first_line(trial.outcome.reason)}" for trial in failed if trial.outcome]


def unfinished(study: StudyRecord, planned: Sequence[tuple[Repeat, object]]) -> bool:
    """Whether a planned training, or one from before, is still to be done."""
    begun = latest(study.repeats)
    ended = {trial.repeat for trial in begun if trial.outcome is not None and trial.outcome.final}
    return (
        len(ended) < len(begun) or any(repeat not in ended for repeat, _ in planned) or bool(failures(study, planned))
    )


def specification(study: StudyRecord) -> Spec:
    """The study's own specification, without pruning and without a search."""
    spec = study.spec
    tracking = spec.tracking.model_copy(update={"experiment": spec.tracking.experiment or study.name})
    return spec.model_copy(
        update={
            "objectives": spec.objectives[:1],
            "asha": Asha(enabled=False),
            "search": Search(policy="random", startup_trials=0),
            "budget": Budget(trials=1),
            "tracking": tracking,
        }
    )
