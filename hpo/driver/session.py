"""An open study run to its end: ledger, conductor, Ray and tracking. The only place that knows them all."""

from __future__ import annotations

from collections.abc import Callable

from hpo.driver.conductor import Conductor, Event
from hpo.driver.ray_backend.slots import Slots
from hpo.driver.ray_backend.tuner import tune
from hpo.driver.ray_backend.watchdog import Watchdog
from hpo.driver.signals import Interrupted, SignalGuard
from hpo.errors import InfrastructureError, NoTrialSucceeded
from hpo.export.incumbent import Incumbent
from hpo.home import Home, confirmed_study
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.ledger.sqlite import network_file_system, network_warning
from hpo.ledger.storage import storage_errors
from hpo.ledger.writer import Ledger
from hpo.redact import redact
from hpo.search.forecast import advice
from hpo.tracking.study_run import Figures
from hpo.tracking.tracker import Tracker


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
    checkpoints = home.checkpoints(ledger.name, ledger.spec.storage.checkpoints)
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
            tune(conductor, home, slots, checkpoints, verbose)
    finally:
        _close(conductor, tracker, listener)
    if signals.received is not None:
        raise Interrupted(signals.received)
    return succeeded(ledger.study)


def succeeded(study: StudyRecord) -> StudyRecord:
    """The study, provided that it came to something: some trial of it did not fail, or its budget left room for none.

    Raises:
        NoTrialSucceeded: every trial failed, or none was begun and nobody knows why.
    """
    begun = [trial for trial in study.trials if trial.started]
    if all(trial.status == "failed" for trial in begun) and (begun or study.ended is None):
        raise NoTrialSucceeded(f"no trial of {study.name} succeeded: {_why_none(study)}")
    return study


def _tracker(ledger: Ledger, home: Home, slots: Slots, figures: Figures | None) -> Tracker | None:
    wanted = ledger.spec.tracking
    if not wanted.enabled:
        return None
    system = slots.device == "cuda" if wanted.system_metrics == "auto" else wanted.system_metrics
    return Tracker.start(ledger.study, home, figures=figures, system_metrics=system)


def _bound(trial: TrialRecord, checkpoints: str) -> None:
    """Of a trial that has ended only the last checkpoint is kept."""
    if trial.outcome is not None and trial.outcome.final:
        from trainers.checkpoint import DirectoryStore

        DirectoryStore(f"{checkpoints}/{trial.number:05d}").drop(keep_last=True)


def _why_none(study: StudyRecord) -> str:
    ended = [trial for trial in study.trials if trial.outcome]
    if not ended or ended[0].outcome is None:
        return "none was begun"
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
