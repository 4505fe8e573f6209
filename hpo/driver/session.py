"""An open study run to its end. The only module that knows ledger, conductor, Ray and tracking together."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from hpo.driver.conductor import Conductor
from hpo.driver.events import Event, Listener
from hpo.driver.listeners import BestFile, CheckpointCleaner, MlflowLink, last_records, to_event_files
from hpo.driver.notify.notifier import Notifier
from hpo.driver.notify.survivor import Survivor
from hpo.driver.ray_backend.cluster import MARK
from hpo.driver.ray_backend.slots import Slots
from hpo.driver.ray_backend.tuner import tune
from hpo.driver.ray_backend.watchdog import Watchdog
from hpo.driver.signals import SignalGuard
from hpo.driver.steering.helm import Helm
from hpo.errors import NoTrialSucceeded
from hpo.gpu_sharing import describe
from hpo.home import Home, confirmed_study
from hpo.ledger.outcome import SAME_FAILURES
from hpo.ledger.records import StudyRecord
from hpo.ledger.sqlite import network_file_system, network_warning
from hpo.ledger.writer import Ledger
from hpo.search.forecast import advice
from hpo.spec.study import SHIPPED_TRAINER, Spec
from hpo.tracking.process.child import Child
from hpo.tracking.process.messages import Figures
from hpo.tracking.tensorboard import EventFiles
from hpo.tracking.tracker import Tracker
from trainers.network.catalogue import padding_warning


def drive(
    ledger: Ledger,
    home: Home,
    slots: Slots,
    view: Listener,
    signals: SignalGuard,
    verbose: bool,
    mlflow: Child,
    figures: Figures | None = None,
) -> StudyRecord:
    """Run the open study until it ends.

    Args:
        mlflow: the process that talks to MLflow, after `preflight`.
        figures: draws the plots that MLflow shows of the study; None for none.

    Raises:
        NoTrialSucceeded: every trial failed.
        InfrastructureError: the ledger, the disk or Ray failed; resumable.
        Interrupted: a signal; resumable.
    """
    checkpoints = home.checkpoints(ledger.name, ledger.spec.storage.checkpoints)
    keep = ledger.spec.storage.keep
    cleaner = CheckpointCleaner(checkpoints, keep, partial(ledger.note_cleaned, keep))
    link = MlflowLink(ledger, _tracker(ledger, home, slots, mlflow, figures))
    # The order matters. best.yaml comes before the view, so that it is there when a person reads of a better trial.
    # The clean-up comes last, because nothing brings a checkpoint back: if a listener before it fails, the study stops
    # and the next driver cleans up.
    notifier = Notifier(ledger.spec.notify, lambda: ledger.study)
    survivor = Survivor(ledger.spec.notify, home, ledger.name, unmarked=MARK)
    events = EventFiles(ledger.study, home, ledger.clock) if ledger.spec.tracking.tensorboard else None
    listeners: list[Listener] = [link, view, notifier, cleaner]
    if events:
        listeners.insert(1, to_event_files(ledger, events))

    def listen(event: Event) -> None:
        for listener in [view] if event.kind == "placed" else listeners:  # nothing follows from it
            listener(event)
        for text in (link.lag, notifier.trouble):
            if text:
                view(Event("notice", text=text))

    conductor = Conductor(ledger, listener=listen)
    if confirmed_study(ledger.name) is None:  # a confirmation has no best.yaml of its own
        listeners.insert(0, BestFile(ledger.study, conductor.tally, home))
    else:  # `hpo.driver.confirm` tells its end, after the last round, if it comes so far
        listeners.remove(notifier)
    signals.watch(conductor.stop)
    if (packing := ledger.study.packing) is not None:
        view(Event("notice", text=describe(packing)))
    for text in _warnings(ledger, home):
        view(Event("notice", text=f"warning: {text}"))

    def finish() -> None:
        """Leave the ledger in order, then let MLflow catch up. Also done where the study broke off."""
        try:
            conductor.close()
        finally:
            survivor.close()
            if notifier in listeners or conductor.fatal is not None or signals.received is not None:
                notifier.end(ledger.study, conductor.fatal)
            if text := link.waiting:
                view(Event("notice", text=text))
            written = events.close() if events else None
            rest = cleaner.close(at_once=signals.received is not None), written, link.catch_up(), notifier.close()
            for problem in rest:
                if problem:
                    view(Event("notice", text=problem))
        with last_records():
            link.close()
            cleaner.note()

    # The watchdog acts where Ray blocks the main thread for ever, or would end the process before `finally` runs.
    watchdog = Watchdog(conductor, lambda: signals.finish_and_exit(finish))
    try:
        cleaner.catch_up(ledger.trials, ledger.cleaned(keep))  # a dead driver may have left some to do
        with watchdog, Helm(conductor, signals, ledger.token):
            tune(conductor, home, slots, checkpoints, verbose)
            while conductor.steering.wait(conductor.tick):  # paused
                tune(conductor, home, slots, checkpoints, verbose)
    finally:
        finish()
    if (interruption := signals.interruption()) is not None:
        raise interruption
    return succeeded(ledger.study)


def succeeded(study: StudyRecord) -> StudyRecord:
    """The study, if at least one trial did not fail, or if its budget left no room for any trial.

    Raises:
        NoTrialSucceeded: every trial failed, or no trial began for an unknown reason. If the study ended because its
            first trials failed, those that wait for a verdict on their node count as failed.
    """
    begun = [trial for trial in study.trials if trial.started]
    useless = (study.ended or "").startswith(SAME_FAILURES) and not any(trial.epochs for trial in begun)
    if useless or (all(trial.status == "failed" for trial in begun) and (begun or study.ended is None)):
        raise NoTrialSucceeded(f"no trial of {study.name} succeeded: {_first_failure(study)}")
    return study


def _first_failure(study: StudyRecord) -> str:
    for trial in sorted(study.trials, key=lambda trial: (trial.status != "failed", trial.number)):
        if trial.outcome is not None:
            return f"trial {trial.number} {trial.outcome.ending.value}: {trial.outcome.reason}"
    return "no trial began"


def _tracker(ledger: Ledger, home: Home, slots: Slots, mlflow: Child, figures: Figures | None) -> Tracker | None:
    tracking = ledger.spec.tracking
    if not tracking.enabled:
        return None
    system = slots.device == "cuda" if tracking.system_metrics == "auto" else tracking.system_metrics
    return Tracker.start(ledger.study, home, mlflow, figures=figures, system_metrics=system, clock=ledger.clock)


def _warnings(ledger: Ledger, home: Home) -> Iterator[str]:
    """What a person should know before the first trial."""
    if kind := network_file_system(ledger.spec.storage.ledger or home.ledger_url):
        yield network_warning(kind)
    yield from advice(ledger.spec)
    yield from _other_padding(ledger.spec)


def _other_padding(spec: Spec) -> Iterator[str]:
    """Whether a file of weights may be that of another model; `trainers.network.weights` checks all else."""
    model = spec.model
    fixed = spec.trainer == SHIPPED_TRAINER and "model.name" not in spec.space
    if fixed and isinstance(model.pretrained, str) and (text := padding_warning(model.name, model.pretrained)):
        yield text
