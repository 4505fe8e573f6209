"""`hpo run` and `hpo resume`: what must hold before anything is spent, then `hpo.driver.session`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hpo.driver.decisions.stopping import used_up
from hpo.driver.events import Event, View
from hpo.driver.gpus.measuring import packed
from hpo.driver.gpus.mps import shared_by_mps
from hpo.driver.preflight import alone, check_data, continue_with, guard, preflight
from hpo.driver.ray_backend.cluster import how_ray_starts, ray_session
from hpo.driver.ray_backend.slots import plan_slots
from hpo.driver.session import drive
from hpo.driver.study_folder import new_study_folder
from hpo.driver.warm_start import gather
from hpo.errors import UsageError
from hpo.home import Home, confirmed_study
from hpo.ledger.lock import Lease
from hpo.ledger.provenance import BESIDE, provenance
from hpo.ledger.reader import checked_attributes, last_holder, open_existing, refuse_existing
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_if_there, open_storage
from hpo.ledger.writer import Ledger
from hpo.search.samplers import study_sampler
from hpo.spec.paths import with_absolute_paths, with_absolute_tracking
from hpo.spec.study import Spec
from hpo.tracking.process.child import Child
from hpo.tracking.process.messages import Figures

NOTHING_RECORDED = "Nothing is recorded yet: run the same command again"


def run(
    spec: Spec,
    home: Home,
    *,
    view: View,
    figures: Figures | None = None,
    say: Callable[[str], None] = lambda text: None,
    verbose: bool = False,
    beside: Path | None = None,
    mlflow: Child | None = None,
) -> StudyRecord:
    """Create a study and run it to its end.

    Args:
        beside: the folder of the specification, where the study's own trainer may lie. It is recorded for `resume`.
        mlflow: the process that talks to MLflow, if it has been started already.
        figures: draws the plots that MLflow shows of the study; None for none.
        say: tells the person what the start is doing, before the view begins.

    Raises:
        UsageError: the study exists, another driver runs it, it asks for more than the machine has, or it cannot
            start from what `warm_start` names.
        DataError, WeightsError: the data set or the pretrained weights are missing or damaged; nothing was recorded.
        NoTrialSucceeded, InfrastructureError, Interrupted: see `hpo.driver.session.drive`.
    """
    spec = with_absolute_paths(spec, home.path)
    name, url = spec.study, spec.storage.ledger or home.ledger_url
    lease = Lease.here(str(home.study(name)))
    with (
        guard(NOTHING_RECORDED, lease) as signals,
        new_study_folder(home, name, lease) as folder,
        mlflow or Child() as mlflow,
    ):
        say("reading the ledger")
        storage = open_if_there(url)
        if storage is not None:
            refuse_existing(storage, name, home)
        transfer = gather(spec, home)
        info = provenance() | preflight(spec, home, mlflow, say) | ({BESIDE: str(beside.resolve())} if beside else {})
        packing = packed(spec, str(home.cache), beside=info.get(BESIDE), say=say)
        say(how_ray_starts(spec))
        mps = shared_by_mps(spec, packing, home.study(name))
        with mps as sharing, ray_session(spec, verbose, lease.token, info.get(BESIDE)):
            slots = plan_slots(spec, packing)
            storage = storage or open_storage(url)
            home.remember_ledger(name, spec.storage.ledger)
            ledger = Ledger.create(storage, spec, info, study_sampler(spec), lease, transfer)
            ledger.pack(packing)
            folder.keep()
            signals.farewell = continue_with(f"resume {name}", home)
            view.begin(ledger.study)
            for text in (sharing, *(f"warm start from {source}" for source in transfer.sources)):
                if text:
                    view(Event("notice", text=text))
            return drive(ledger, home, slots, view, signals, verbose, mlflow, figures)


def resume(
    name: str,
    home: Home,
    *,
    view: View,
    changes: Callable[[Spec], Spec],
    figures: Figures | None = None,
    say: Callable[[str], None] = lambda text: None,
    verbose: bool = False,
    mlflow: Child | None = None,
) -> StudyRecord:
    """Continue a study: unfinished trials first, from their last checkpoints.

    A study whose budget is used up is returned as it is; its `ended` says why.

    Args:
        changes: the specification to continue with, given the recorded one.
        say: tells the person what the start is doing or waits for, before the view begins.
        mlflow: as of `run`.

    Raises:
        As `run`; UsageError also when there is no such study.
    """
    if (confirmed := confirmed_study(name)) is not None:
        raise UsageError(f"{name} is a confirmation; continue it by `{home.command(f'confirm {confirmed}')}`")
    lease = Lease.here(str(home.study(name)))
    farewell = continue_with(f"resume {name}", home)
    with (
        guard(farewell, lease) as signals,
        _read(home, name, lease, say) as (ledger, dead),
        mlflow or Child() as mlflow,
    ):
        recorded = ledger.study
        mlflow.load(recorded.spec, home)
        spec = with_absolute_tracking(changes(recorded.spec))
        if not spec.tracking.enabled:
            mlflow.close()  # it would keep MLflow in memory as long as the study runs
        if reason := used_up(dataclasses.replace(recorded, spec=spec), recorded.seconds):
            ledger.take_over(dead)
            ledger.respecify(spec)
            ledger.let_go()  # the driver that reached the budget may have died before it did so
            ledger.end(reason)
            ledger.close()
            return ledger.study
        info = preflight(spec, home, mlflow, say)
        check_data(recorded, info)
        place = recorded.info.get(BESIDE)
        packing = packed(spec, str(home.cache), recorded=recorded.packing, beside=place, say=say)
        say(how_ray_starts(spec))
        mps = shared_by_mps(spec, packing, home.study(name))
        with mps as sharing, ray_session(spec, verbose, lease.token, place):
            slots = plan_slots(spec, packing)
            ledger.sampler = study_sampler(spec)
            ledger.take_over(dead)
            ledger.respecify(spec)
            ledger.pack(packing)
            view.begin(ledger.study)
            if sharing:
                view(Event("notice", text=sharing))
            return drive(ledger, home, slots, view, signals, verbose, mlflow, figures)


@contextmanager
def _read(
    home: Home, name: str, lease: Lease, say: Callable[[str], None]
) -> Iterator[tuple[Ledger, Mapping[str, Any] | None]]:
    """A study that no living driver holds, as it is, and the lease of the one that died; a wrong name leaves no trace.

    Nothing is written, because the start may still fail or be given up.
    """
    say("reading the ledger")
    storage = open_existing(home, name)
    checked_attributes(storage, name)
    home.create()
    with alone(home.study(name), lease):
        dead = lease.outwait(name, partial(last_holder, storage, name), say)
        yield Ledger.read(storage, name, lease), dead
