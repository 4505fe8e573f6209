"""Studies begun and gone on with: what must hold before anything is spent, then `hpo.driver.session`."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Protocol

from hpo.driver.conductor import Event
from hpo.driver.preflight import alone, check_data, guard, preflight
from hpo.driver.ray_backend.cluster import ray_session
from hpo.driver.ray_backend.slots import plan_slots
from hpo.driver.session import drive
from hpo.driver.stopping import reached
from hpo.driver.warm_start import gather
from hpo.errors import UsageError
from hpo.home import Home, confirmed_study
from hpo.ledger.lock import Lease
from hpo.ledger.provenance import provenance
from hpo.ledger.reader import load_study, read_study, refuse_existing
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_existing, open_if_there, open_storage
from hpo.ledger.writer import Ledger
from hpo.search.samplers import study_sampler
from hpo.spec.paths import anchor
from hpo.spec.study import Spec
from hpo.tracking.study_run import Figures


class View(Protocol):
    """Shows a study while it runs."""

    def begin(self, study: StudyRecord) -> None:
        """Start showing `study`, which is open and about to run."""

    def __call__(self, event: Event) -> None:
        """Show one event of it."""


def run(spec: Spec, home: Home, *, view: View, figures: Figures | None = None, verbose: bool = False) -> StudyRecord:
    """Create a study and run it to its end.

    Args:
        figures: draws the plots that MLflow shows of the study; None for none.

    Raises:
        UsageError: it exists, is being run, asks for more than the machine has, or cannot start from what
            `warm_start` names.
        DataError, WeightsError: what it trains on or from cannot be had; nothing was recorded.
        NoTrialSucceeded, InfrastructureError, Interrupted: see `hpo.driver.session.drive`.
    """
    spec = anchor(spec)
    folder, url = home.study(spec.study), spec.storage.ledger or home.ledger_url
    begun = [folder.parent, *([] if home.path.exists() else [home.path])]
    home.create()
    lease = Lease.here(str(folder))
    with guard(f"resume {spec.study}", home, lease) as signals:
        # Before anything is written: a full disk refuses even the study's folder.
        go_on, signals.farewell = signals.farewell, "Nothing was recorded yet: start it again by the same command"
        with alone(folder, lease), ExitStack() as undo:
            if len(list(folder.iterdir())) == 1:  # the lock: all that will be there is this run's
                undo.callback(_withdraw, folder, begun)
            storage = open_if_there(url)
            if storage is not None:
                refuse_existing(storage, spec.study)
            transfer = gather(spec, home)
            info = provenance() | preflight(spec, home)
            with ray_session(spec, verbose, lease.token):
                slots = plan_slots(spec)
                storage = storage or open_storage(url)
                home.remember_ledger(spec.study, spec.storage.ledger)
                ledger = Ledger.create(storage, spec, info, study_sampler(spec), lease, transfer)
                signals.farewell = go_on
                undo.pop_all()
                view.begin(ledger.study)
                for source in transfer.sources:
                    view(Event("notice", text=f"warm start from {source}"))
                return drive(ledger, home, slots, view, signals, verbose, figures)


def _withdraw(folder: Path, around: Sequence[Path]) -> None:
    """Remove the folder of a study that was not recorded, and those `around` it that nothing else lies in."""
    shutil.rmtree(folder)
    for place in around:
        with suppress(OSError):  # not empty, also where somebody else has begun a study this very moment
            place.rmdir()


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
        if why := reached(dataclasses.replace(recorded, spec=spec), recorded.seconds):
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
            view.begin(ledger.study)
            return drive(ledger, home, slots, view, signals, verbose, figures)


def _existing(home: Home, name: str) -> Path:
    """The study's folder; a wrong name leaves no trace."""
    read_study(home, name)
    home.create()
    return home.study(name)
