"""`hpo confirm`: the best configurations of a study trained again with fresh seeds, by the same workers.

A confirmation is a study of its own in the same ledger, whose trials are all planned before it begins and never
pruned. So it is as resumable as any, and the study it belongs to stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hpo.driver.events import View
from hpo.driver.preflight import alone, check_data, continue_with, guard, preflight
from hpo.driver.ray_backend.cluster import ray_session
from hpo.driver.ray_backend.slots import plan_slots
from hpo.driver.session import drive
from hpo.errors import UsageError
from hpo.export.incumbent import Incumbent
from hpo.home import Home, confirmation_of
from hpo.ledger.lock import Lease
from hpo.ledger.provenance import provenance
from hpo.ledger.reader import last_holder, load_study, read_study
from hpo.ledger.records import Repeat, StudyRecord, TrialRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.results.best import leaders
from hpo.results.confirmation import latest
from hpo.search.samplers import study_sampler
from hpo.spec.parameters import Choice
from hpo.spec.seeds import derive_seed
from hpo.spec.study import Asha, Budget, Search, Spec
from hpo.text import first_line

FEWEST_SEEDS = 2
"""One value says nothing of its spread."""


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
    """Train the best `top` configurations and the published recipe with each of `seeds` seeds, or go on doing so.

    What has been trained before is not trained again: a greater `top` or more `seeds` extend a confirmation. What
    failed is, with the same seed, whatever it failed of: a lost node is not the configuration's fault, and of a
    configuration that diverges every time the verdict stays the same.

    Raises:
        UsageError: no such study, no complete trial in it, fewer than two seeds, or another driver is at work on it.
        NoTrialSucceeded, InfrastructureError, Interrupted: as `hpo.driver.run.run`.
    """
    if seeds < FEWEST_SEEDS:
        raise UsageError(f"--seeds {seeds}: an interval needs at least {FEWEST_SEEDS} seeds")
    if top < 1:
        raise UsageError(f"--top {top}: at least one configuration must be confirmed")
    folder = home.study(name)
    found = candidates(read_study(home, name), top)
    if (complete := sum(one.complete for one in found)) < top:
        say(f"{name} has {complete} different complete configurations, not {top}: all of them are confirmed")
    home.create()
    lease = Lease.here(str(folder))
    farewell = continue_with(f"confirm {name} --top {top} --seeds {seeds}", home)
    with guard(farewell, lease) as signals, alone(folder, lease):
        storage = open_storage(home.ledger_of(name))
        lease.refuse_other(name, last_holder(storage, name))
        study = load_study(storage, name)
        wanted = repeats(study, candidates(study, top), seeds)
        if (most := 1 + max(repeat.index for repeat, _ in wanted)) > seeds:
            say(f"all are trained with {most} seeds, as many as some of them have had")
        for text in failures(study, wanted):
            say(f"tried again: {text}")
        if unfinished(study, wanted):
            spec = specification(study)
            info = preflight(spec, home)
            check_data(study, info)
            home.study(confirmation_of(name)).mkdir(exist_ok=True)
            with ray_session(spec, verbose, lease.token):
                slots = plan_slots(spec)
                sampler = study_sampler(spec)
                if study.repeats:
                    ledger = Ledger.open(storage, confirmation_of(name), sampler, lease)
                else:
                    info = provenance() | info | {"identity": study.info.get("identity", "")}
                    ledger = Ledger.create(storage, spec, info, sampler, lease, name=confirmation_of(name))
                ledger.plan(wanted)
                ledger.respecify(spec.model_copy(update={"budget": Budget(trials=len(ledger.trials))}))
                view.begin(ledger.study)
                drive(ledger, home, slots, view, signals, verbose)
        study = load_study(storage, name)
        Incumbent(home).update(study)
    return study


def candidates(study: StudyRecord, top: int) -> list[TrialRecord]:
    """The best `top` complete trials of different configurations, the best first, and the published recipe.

    The recipe is among them wherever the study has one, however it did, as the trial that was enqueued.

    Raises:
        UsageError: no trial is complete.
    """
    recipe, found = study.baseline, list[TrialRecord]()
    for trial in leaders(study, len(study.trials)):
        one = recipe if recipe is not None and trial.values == recipe.values else trial
        if all(one.values != other.values for other in found):
            found.append(one)
    best = found[:top]
    return best if recipe is None or recipe in best else [*best, recipe]


def repeats(study: StudyRecord, trials: Sequence[TrialRecord], seeds: int) -> list[tuple[Repeat, Mapping[str, Choice]]]:
    """What to train, seed by seed, so that one cut off early has compared all with as many seeds as it could.

    All get as many seeds as any of them had before, so that the comparison is of equals. A configuration confirmed
    before that is not among them keeps what it has, and is compared over the seeds that it shares.
    """
    numbers = {trial.number for trial in trials}
    had = [one.repeat.index + 1 for one in study.repeats if one.repeat and one.repeat.trial in numbers]
    seeds = max([seeds, *had])
    recipe = study.baseline.number if study.baseline else None
    drawn = [derive_seed(study.spec.seed, f"confirmation/{index}") for index in range(seeds)]
    return [
        (Repeat(trial.number, index, seed, trial.number == recipe), trial.values)
        for index, seed in enumerate(drawn)
        for trial in trials
    ]


def failures(study: StudyRecord, wanted: Sequence[tuple[Repeat, object]]) -> list[str]:
    """The trainings among those wanted that failed when they were last tried, with the reason."""
    repeats = {repeat for repeat, _ in wanted}
    failed = [one for one in latest(study.repeats) if one.status == "failed" and one.repeat in repeats]
    return [f"{one.label} failed: {first_line(one.outcome.reason)}" for one in failed if one.outcome]


def unfinished(study: StudyRecord, wanted: Sequence[tuple[Repeat, object]]) -> bool:
    """Whether anything is left to train."""
    known = latest(study.repeats)
    ended = {one.repeat for one in known if one.outcome is not None and one.outcome.final}
    return len(ended) < len(known) or any(repeat not in ended for repeat, _ in wanted) or bool(failures(study, wanted))


def specification(study: StudyRecord) -> Spec:
    """The study's own, but nobody is pruned and nothing is suggested."""
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
