"""`hpo confirm`: train the best configurations of a study again with new seeds.

A confirmation is a study of its own in the same ledger, and none of its trials is pruned. So it can be resumed like
every study, and the study that it belongs to does not change. It goes in rounds: the first trains every configuration
with two seeds, each further one trains those that may still be the best, and the baseline, with one seed more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from hpo.driver.decisions.rounds import candidates, due, failures, refuse_counts, repeats, too_few, unfinished
from hpo.driver.events import View
from hpo.driver.gpus.measuring import packed
from hpo.driver.gpus.mps import shared_by_mps
from hpo.driver.notify.notifier import Notifier
from hpo.driver.preflight import alone, check_data, continue_with, guard, preflight
from hpo.driver.ray_backend.cluster import how_ray_starts, ray_session
from hpo.driver.ray_backend.slots import plan_slots
from hpo.driver.session import drive
from hpo.export.incumbent import Incumbent
from hpo.home import Home, confirmation_of
from hpo.ledger.lock import Lease
from hpo.ledger.provenance import BESIDE, provenance
from hpo.ledger.reader import last_holder, load_study, read_study
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.search.samplers import study_sampler
from hpo.spec.study import Asha, Budget, Search, Spec
from hpo.tracking.mirror import refresh
from hpo.tracking.process.child import Child


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
    recorded = read_study(home, name)
    if few := too_few(recorded, candidates(recorded, top), top):
        say(few)
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
        planned = due(study, wanted, retry=True)
        if trained := bool(planned) or unfinished(study, planned):
            spec = specification(study)
            info = preflight(spec, home, mlflow, say)
            check_data(study, info)
            again = confirmation_of(name)
            dead = lease.outwait(again, partial(last_holder, storage, again), say) if study.repeats else None
            home.study(again).mkdir(exist_ok=True)
            info = provenance() | info | {"identity": study.info.get("identity", "")}
            place = study.info.get(BESIDE)
            packing = packed(spec, str(home.cache), recorded=study.packing, beside=place, say=say)
            say(how_ray_starts(spec))
            mps = shared_by_mps(spec, packing, home.study(again))
            with mps as sharing, ray_session(spec, verbose, lease.token, place):
                if sharing:
                    say(sharing)
                slots = plan_slots(spec, packing)
                begin: Callable[[StudyRecord], None] = view.begin
                while True:
                    sampler = study_sampler(spec)
                    if study.repeats:
                        ledger = Ledger.open(storage, again, sampler, lease, dead=dead, say=say)
                    else:
                        ledger = Ledger.create(storage, spec, info, sampler, lease, name=again)
                    ledger.plan(planned)
                    ledger.pack(packing)
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
        problems = [refresh(study, home)]
        if trained:
            notifier = Notifier(study.spec.notify, lambda: study)
            notifier.end(study, None)
            problems.append(notifier.close())
        for problem in filter(None, problems):
            say(problem)
    return study


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
