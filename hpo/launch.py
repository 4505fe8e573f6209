"""Where a study is wired together: ledger, conductor, Ray, tracking. The only place that knows them all."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hpo import budget, space
from hpo.advice import advice
from hpo.anchor import anchor
from hpo.conductor import Conductor, Event
from hpo.errors import InfrastructureError, NoTrialSucceeded, UsageError
from hpo.home import Home, confirmed_study
from hpo.incumbent import Incumbent
from hpo.launch_ray import end_processes, ray_session
from hpo.launch_slots import Slots, plan_slots
from hpo.launch_watchdog import Watchdog
from hpo.ledger import Ledger, load_study, refuse_existing
from hpo.lock import Lease, study_lock
from hpo.objectives import objectives
from hpo.provenance import provenance
from hpo.records import StudyRecord, TrialRecord
from hpo.redact import redact
from hpo.signals import Interrupted, SignalGuard
from hpo.specification import Spec
from hpo.storage import network_file_system, network_warning, open_existing, open_storage, storage_errors
from hpo.tracking import Figures, Tracker, check_tracking
from hpo.warm_start import gather

View = Callable[[StudyRecord], Callable[[Event], None]]
"""Makes what is shown of a study as it runs."""


def run(spec: Spec, home: Home, *, view: View, figures: Figures | None = None, verbose: bool = False) -> StudyRecord:
    """Create a study and run it to its end.

    Args:
        figures: draws the plots that MLflow shows of the study; None for none.

    Raises:
        UsageError: it exists, is being run, asks for more than the machine has, or cannot start from what
            `warm_start` names.
        DataError, WeightsError: what it trains on or from cannot be had; nothing was recorded.
        NoTrialSucceeded, InfrastructureError, Interrupted: see `drive`.
    """
    home.create()
    spec = anchor(spec)
    folder = home.study(spec.study)
    lease = Lease.here(str(folder))
    with guard(f"resume {spec.study}", home, lease) as signals:
        # Before anything is written: a full disk refuses even the study's folder.
        go_on, signals.farewell = signals.farewell, "Nothing was recorded yet: start it again by the same command"
        with alone(folder, lease):
            storage = open_storage(spec.storage.ledger or home.ledger_url)
            refuse_existing(storage, spec.study)
            transfer = gather(spec, home)
            info = provenance() | preflight(spec, home)
            with ray_session(spec, verbose, lease.token):
                slots = plan_slots(spec)
                home.remember_ledger(spec.study, spec.storage.ledger)
                ledger = Ledger.create(storage, spec, info, study_sampler(spec), lease, transfer)
                signals.farewell = go_on
                listener = view(ledger.study)
                for source in transfer.sources:
                    listener(Event("notice", text=f"warm start from {source}"))
                return drive(ledger, home, slots, listener, signals, verbose, figures)


def resume(
    name: str,
    home: Home,
    *,
    view: View,
    changes: Callable[[Spec], Spec],
    figures: Figures | None = None,
    verbose: bool = False,
) -> StudyRecord:
    """Go on with a study: unfinished trials first, from their last checkpoints. One whose budget is used up is
    returned as it is; its `ended` says why.

    Args:
        changes: the specification to go on with, given the recorded one.

    Raises:
        As `run`; UsageError also when there is no such study.
    """
    if (confirmed := confirmed_study(name)) is not None:
        raise UsageError(f"a confirmation goes on by `hpo confirm {confirmed}`")
    lease = Lease.here(str(home.study(name)))
    with guard(f"resume {name}", home, lease) as signals, alone(_existing(home, name), lease):
        storage = open_existing(home, name)
        recorded = load_study(storage, name)
        spec = changes(recorded.spec)
        if why := budget.reached(dataclasses.replace(recorded, spec=spec), recorded.seconds):
            ledger = Ledger.open(storage, name, study_sampler(spec), lease)
            ledger.respecify(spec)
            ledger.end(why)
            ledger.close()
            return ledger.study
        info = preflight(spec, home)
        check_data(recorded, info)
        with ray_session(spec, verbose, lease.token):
            slots = plan_slots(spec)
            ledger = Ledger.open(storage, name, study_sampler(spec), lease)
            ledger.respecify(spec)
            return drive(ledger, home, slots, view(ledger.study), signals, verbose, figures)


def _existing(home: Home, name: str) -> Path:
    """The study's folder; a wrong name leaves no trace."""
    load_study(open_existing(home, name), name)
    home.create()
    return home.study(name)


def guard(command: str, home: Home, lease: Lease) -> SignalGuard:
    """Signals end the study in order; `command` is what goes on with it."""
    place = "" if "HPO_HOME" in os.environ or home == Home.at() else f" --home {home.path}"
    return SignalGuard(f"Go on with: hpo {command}{place}", lambda: end_processes(lease.token, lease.pid))


@contextmanager
def alone(folder: Path, lease: Lease) -> Iterator[None]:
    """Hold the study, and end what a driver that died has left of its Ray: its workers may not have noticed yet."""
    with study_lock(folder, lease.token) as dead:
        if dead and dead.pid != os.getpid():  # this very process may have tried before, in vain, and lives
            end_processes(dead.token, dead.pid)
        yield


def check_data(recorded: StudyRecord, info: dict[str, Any]) -> None:
    """Raises UsageError where the images are not those that the study's trials have been trained on."""
    before, now = recorded.info.get("data", {}), json.loads(json.dumps(info.get("data", {})))
    changed = [f"  {key}: {before[key]} -> {now.get(key)}" for key in before if before[key] != now.get(key)]
    if changed:
        raise UsageError(
            f"the data set of {recorded.name} has changed since it began, so its trials could not be compared:\n"
            + "\n".join(changed)
        )


def preflight(spec: Spec, home: Home) -> dict[str, Any]:
    """Everything that can be known to fail is made to fail here, in the driver, once."""
    if spec.tracking.enabled:
        check_tracking(spec, home)
    if spec.trainer != Spec.model_fields["trainer"].default:
        return {}
    from trainers import data, weights

    info = data.prepare(spec.data, str(home.cache))
    weights.check(spec.model)
    return {"data": dataclasses.asdict(info)}


def study_sampler(spec: Spec) -> Any:
    """The Optuna sampler that a specification asks for."""
    from hpo.sampler import make_sampler

    return make_sampler(
        spec.search.policy,
        seed=spec.seed,
        horizon=spec.train.epochs,
        startup_trials=spec.search.startup_trials,
        random_share=spec.search.random_share,
        distributions=space.distributions(spec.space),
        active=lambda values: {name for name, one in spec.space.items() if space.is_active(one, values)},
        objectives=objectives(spec.objectives),
    )


# ----------------------------------------------------------------------------------------------- drive


def drive(
    ledger: Ledger,
    home: Home,
    slots: Slots,
    listener: Callable[[Event], None],
    signals: SignalGuard,
    verbose: bool,
    figures: Figures | None = None,
) -> StudyRecord:
    """Run the open study until it ends.

    Raises:
        NoTrialSucceeded: every trial failed.
        InfrastructureError: the ledger, the disk or Ray failed; resumable.
        Interrupted: a signal; resumable.
    """
    tracker = _tracker(ledger, home, slots, figures)
    checkpoints = checkpoint_root(ledger.name, ledger.spec, home)
    incumbent = None if confirmed_study(ledger.name) else Incumbent(home)
    if incumbent:
        incumbent.update(ledger.study)

    def heard(event: Event) -> None:
        if incumbent and event.trial is not None:
            incumbent.update(ledger.study)
        if tracker and event.trial is not None:
            for number, run_id in tracker.linked():
                ledger.link_run(number, run_id)
            tracker.update(ledger.trial(event.trial.number))
        listener(event)
        if event.kind == "finished" and event.trial is not None:
            _bound(event.trial, checkpoints)

    conductor = Conductor(ledger, listener=heard)
    signals.watch(conductor.stop)
    if kind := network_file_system(ledger.spec.storage.ledger or home.ledger_url):
        listener(Event("notice", text=f"warning: {network_warning(kind)}"))
    for warning in advice(ledger.spec):
        listener(Event("notice", text=f"warning: {warning}"))

    def leave() -> None:
        """What is left to do where Ray keeps the main thread for ever, or ends the process before that gets there."""
        try:
            _close(conductor, tracker, listener)
        except InfrastructureError as error:
            if signals.received is None:  # else it is what the signal did to Ray
                signals.say(f"error: {redact(str(error))}")
        signals.leave(InfrastructureError.exit_code)

    watchdog = Watchdog(conductor, leave)
    try:
        for trial in ledger.trials:
            _bound(trial, checkpoints)  # what a dead driver left undone
        with watchdog:
            _tune(conductor, home, slots, checkpoints, verbose)
    finally:
        _close(conductor, tracker, listener)
    if signals.received is not None:
        raise Interrupted(signals.received)
    study = ledger.study
    if study.best is None and not (study.ended and study.count("interrupted")):
        raise NoTrialSucceeded(f"no trial of {study.name} succeeded: {_why_none(study)}")
    return study


def _tracker(ledger: Ledger, home: Home, slots: Slots, figures: Figures | None) -> Tracker | None:
    wanted = ledger.spec.tracking
    if not wanted.enabled:
        return None
    system = slots.device == "cuda" if wanted.system_metrics == "auto" else wanted.system_metrics
    return Tracker.start(ledger.study, home, figures=figures, system_metrics=system)


def checkpoint_root(name: str, spec: Spec, home: Home) -> str:
    """Folder or URI below which each trial of a study has a folder of its own for its checkpoints."""
    studies = home.study(spec.study).parent
    return f"{spec.storage.checkpoints or studies}/{home.study(name).relative_to(studies)}/checkpoints"


def _bound(trial: TrialRecord, checkpoints: str) -> None:
    """Of a trial that has ended only the last checkpoint is kept."""
    if trial.outcome is not None and trial.outcome.final:
        from trainers.checkpoint import DirectoryStore

        DirectoryStore(f"{checkpoints}/{trial.number:05d}").drop(keep_last=True)


def _why_none(study: StudyRecord) -> str:
    ended = [trial for trial in study.trials if trial.outcome]
    if not ended or ended[0].outcome is None:
        return "none was trained within the budget"
    return f"trial {ended[0].number} {ended[0].outcome.ending.value}: {ended[0].outcome.reason}"


def _close(conductor: Conductor, tracker: Tracker | None, listener: Callable[[Event], None]) -> None:
    """Leave the ledger in order, then let MLflow catch up, also where the study was broken off."""
    ledger = conductor.ledger
    try:
        conductor.close()
    finally:
        if tracker:
            for trial in ledger.trials:
                tracker.update(trial)
            left = tracker.close(ledger.study)
            if left:
                listener(Event("notice", text=left))
    if tracker:
        try:
            for number, run_id in tracker.linked():
                ledger.link_run(number, run_id)
        except storage_errors() as error:
            raise InfrastructureError(f"the ledger failed at the very end: {error}") from error


def _tune(conductor: Conductor, home: Home, slots: Slots, checkpoints: str, verbose: bool) -> None:
    from ray import tune

    from hpo.scheduler import StopAll, StudyScheduler
    from hpo.searcher import StudySearcher
    from hpo.worker import Worker

    spec = conductor.spec
    scratch = home.study(conductor.ledger.name) / "ray"  # one place, so that what a dead driver left there is removed
    shutil.rmtree(scratch, ignore_errors=True)
    worker = {
        "trainer": spec.trainer,
        "device": slots.device,
        "device_share": min(slots.gpus, 1.0) or 1.0,  # of the one GPU that a trial trains on
        "threads": max(1, math.floor(slots.cpus)) if slots.device == "cpu" else None,
        "cache_dir": str(home.cache),
    }
    tuner = tune.Tuner(
        tune.with_resources(Worker, {"cpu": slots.cpus, "gpu": slots.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(conductor, checkpoints, worker),
            scheduler=StudyScheduler(conductor),
            num_samples=-1,
            max_concurrent_trials=slots.concurrency,
            reuse_actors=True,
            trial_name_creator=lambda trial: f"trial-{trial.config['number']:05d}",
            trial_dirname_creator=lambda trial: f"trial-{trial.config['number']:05d}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name=conductor.ledger.name,
            storage_path=str(scratch),
            stop=StopAll(conductor),
            failure_config=tune.FailureConfig(max_failures=0),  # the conductor counts
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # trainers keep their own
            verbose=1 if verbose else 0,
        ),
    )
    try:
        tuner.fit()
    except Exception as error:  # noqa: BLE001 - `conductor.close` raises it, once the ledger is in order
        conductor.fail(InfrastructureError(f"Ray failed: {type(error).__name__}: {error}"))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
