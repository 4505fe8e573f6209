"""The only writer of a study's ledger, the Optuna storage.

Invariants:
- A trial's record in the ledger is never older than what is derived from it (MLflow, ASHA's rungs, a report).
- Every method may be cut off at any point. `Ledger.open` finishes what a dead driver left half-written. A second call
  of the method does what the first did not, so a write that a restarting server refused is repeated.
- Only one driver has a study open at a time (`hpo.ledger.lock`), so the records in memory are up to date.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpo.clock import Clock
from hpo.gpu_sharing import Packing
from hpo.home import Home
from hpo.ledger import attributes
from hpo.ledger.lock import Lease, Session
from hpo.ledger.outcome import classify
from hpo.ledger.reader import checked_attributes, last_holder, refuse_existing, repeats_of
from hpo.ledger.records import LeftNode, Pause, Repeat, StudyRecord
from hpo.ledger.steering.mailbox import Mailbox
from hpo.ledger.steering.requests import Answer, Request, requests_in
from hpo.ledger.tables import names
from hpo.ledger.tables.creation import create_study
from hpo.ledger.tables.recovery import last_sign_of_life
from hpo.ledger.transfer import NOTHING, TRANSFER_KEY, Transfer
from hpo.ledger.trial_writer import TrialWriter, repeated
from hpo.spec.parameters import Choice
from hpo.spec.study import Spec

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage


class Ledger(TrialWriter):
    """A study open for writing. Use `create` or `open`, or `read` and later `take_over`."""

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        sampler: BaseSampler | None = None,
        lease: Lease | None = None,
        clock: Clock | None = None,
    ) -> None:
        import optuna

        study = optuna.load_study(study_name=name, storage=storage, sampler=sampler, pruner=optuna.pruners.NopPruner())
        stored = study.user_attrs
        super().__init__(storage, study, Spec.from_json(stored[attributes.SPEC_KEY]), clock or Clock())
        self.name = name
        self._info = attributes.info_of(stored)
        self._transfer = Transfer.from_json(stored.get(TRANSFER_KEY, {}))
        self._session = Session(storage, study, lease or Lease.here(""), self.clock)
        self._repeats = repeats_of(storage, name)
        self._ended: str | None = stored.get(attributes.ENDED_KEY)
        self._left = attributes.left_nodes(stored)
        self._paused: Pause | None = None
        self.stopping: str | None = None
        """The recorded reason why this driver is about to end; None while it is not."""
        self.mailbox = Mailbox(storage, study._study_id)
        """What people ask of this study."""
        self._answered = tuple(request for request in requests_in(stored) if request.answer)
        self._cleaned: dict[str, Any] = stored.get(attributes.CLEANED_KEY, {})
        self.clock.not_before(max(self._last_sign_of_life(), self._info.get("created", 0.0)))

    def _last_sign_of_life(self) -> float:
        return last_sign_of_life(self.trials, self._session.earlier)

    # ------------------------------------------------------------------------------- open and close

    @classmethod
    def create(
        cls,
        storage: BaseStorage,
        spec: Spec,
        info: Mapping[str, Any],
        sampler: BaseSampler | None = None,
        lease: Lease | None = None,
        transfer: Transfer = NOTHING,
        name: str | None = None,
        clock: Clock | None = None,
    ) -> Ledger:
        """Record a new study with its enqueued configurations and what it takes over from earlier studies.

        Args:
            name: of a confirmation, which begins without trials; None for a study, which its specification names.

        Raises:
            UsageError: a study of that name exists.
        """
        enqueue = name is None
        name = name or spec.study
        refuse_existing(storage, name, Home.of(lease.folder) if lease else None)
        create_study(storage, name, spec, info, transfer, enqueue=enqueue)
        ledger = cls(storage, name, sampler, lease, clock)
        ledger._session.take_over(None)
        ledger.heartbeat()
        return ledger

    @classmethod
    def open(
        cls,
        storage: BaseStorage,
        name: str,
        sampler: BaseSampler | None = None,
        lease: Lease | None = None,
        clock: Clock | None = None,
        *,
        dead: Mapping[str, Any] | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> Ledger:
        """Open an existing study and finish what a dead driver left half-written.

        Args:
            dead: the lease of a holder that is known to be dead; see `hpo.ledger.lock.Lease.outwait`.
            say: tells the person that this waits to see whether another holder is alive.

        Raises:
            UsageError: no study of that name, or another driver that is alive holds it.
            InfrastructureError: written by another version of this tool.
        """
        checked_attributes(storage, name)
        lease, clock, read = lease or Lease.here(""), clock or Clock(), functools.partial(last_holder, storage, name)
        holder = read()
        if holder != dead:
            holder = lease.outwait(name, read, say, clock)
        ledger = cls(storage, name, sampler, lease, clock)  # now, since the holder may have written until its end
        ledger.take_over(holder)
        return ledger

    @classmethod
    def read(cls, storage: BaseStorage, name: str, lease: Lease) -> Ledger:
        """An existing study as it is, for a driver that has to look before it begins. Write nothing before `take_over`.

        Raises:
            As `open`.
        """
        checked_attributes(storage, name)
        return cls(storage, name, lease=lease)

    def take_over(self, dead: Mapping[str, Any] | None) -> None:
        """Begin to write, and finish what a dead driver left half-written.

        Args:
            dead: the lease of the recorded holder, which is known to be dead; None if nobody holds the study.

        Raises:
            UsageError: another driver has worked on the study since it was read.
        """
        self._session.take_over(dead)
        self.heartbeat()
        self._adopt()
        self._recover(self._last_sign_of_life())

    def close(self) -> None:
        """Leave no trial RUNNING: unfinished trials wait for `resume`."""
        for trial in list(self._trials.values()):
            if trial.started and trial.outcome is None:
                horizon = self.spec.train.epochs
                self.finish(trial.number, classify(epochs=len(trial.epochs), horizon=horizon, value=trial.value))
        self.write_notes()
        self.heartbeat()
        self._session.end()

    # ---------------------------------------------------------------------------------------- reading

    @property
    def study(self) -> StudyRecord:
        """The whole study. Reads nothing, so it works even when the database has failed."""
        return StudyRecord(
            name=self.name,
            spec=self.spec,
            info=self._info,
            trials=self.trials,
            sessions=self._session.all,
            transfer=self._transfer,
            repeats=self._repeats,
            ended=self._ended,
            left_nodes=self._left,
            packing=self._packing,
            paused=self._paused,
            stopping=self.stopping,
            requests=self._answered,
            driver="open" if self._session.holding else "none",
        )

    # ---------------------------------------------------------------------------------------- writing

    @repeated
    def plan(self, repeats: Sequence[tuple[Repeat, Mapping[str, Choice]]]) -> None:
        """Enqueue trainings of a confirmation, each with a configuration as in `Spec.enqueue`.

        A pair (trial, seed) that is enqueued already and has not failed is left out, so a repeated call changes
        nothing."""
        self._reload()
        valid = [trial.repeat for trial in self.trials if trial.repeat and trial.status != "failed"]
        planned = {(repeat.trial, repeat.index) for repeat in valid}
        for repeat, values in repeats:
            if (repeat.trial, repeat.index) not in planned:
                searched, stored = attributes.chosen(values, self.spec.space)
                stored |= {names.REPEAT_KEY: dataclasses.asdict(repeat)}
                self._study.enqueue_trial(searched, user_attrs=stored)
        self._reload()

    @repeated
    def end(self, reason: str | None) -> None:
        """Record which part of the budget stopped the study; None: the study continues."""
        if reason != self._ended:
            self._study.set_user_attr(attributes.ENDED_KEY, reason)
            self._ended = reason

    @repeated
    def leave_nodes(self, nodes: Iterable[LeftNode]) -> None:
        """Record which nodes get no trials of this driver."""
        if (left := tuple(nodes)) != self._left:
            self._study.set_user_attr(attributes.NODES_KEY, [dataclasses.asdict(node) for node in left])
            self._left = left

    @repeated
    def pack(self, packing: Packing | None) -> None:
        """Record how many trials share a GPU from now on; None: the specification says it, or there is no GPU."""
        if packing != self._packing:
            self._study.set_user_attr(attributes.PACKING_KEY, packing.to_json() if packing else None)
            self._packing = packing

    @repeated
    def pause(self, pause: Pause | None) -> None:
        """Record who paused this driver, or with None that it is not paused."""
        stored = dataclasses.asdict(pause) if pause else None
        if self._study.user_attrs.get(attributes.PAUSED_KEY) != stored:
            self._study.set_user_attr(attributes.PAUSED_KEY, stored)
        self._paused = pause

    @repeated
    def note_stopping(self, reason: str) -> None:
        """Record that this driver is about to end, for who watches: a running epoch may still take long."""
        if reason != self.stopping:
            self._study.set_user_attr(attributes.STOPPING_KEY, {"reason": reason, "driver": self._session.token})
            self.stopping = reason

    @repeated
    def rest(self, resting: bool) -> None:
        """Whether this driver waits from now on: such time is no time of the study."""
        self._session.rest(resting)

    def answer(self, request: Request, answer: Answer) -> None:
        """Answer what somebody has asked of this driver."""
        self.mailbox.answer(request, answer)
        self._answered = (*self._answered, dataclasses.replace(request, answer=answer))

    @property
    def token(self) -> str:
        """Tells this driver from all others."""
        return self._session.token

    def cleaned(self, keep: str) -> float:
        """The checkpoints of all trials that ended until this time, seconds since the epoch, are as `keep` says; 0 if
        nothing is known."""
        return float(self._cleaned["until"]) if self._cleaned.get("keep") == keep else 0.0

    @repeated
    def note_cleaned(self, keep: str, until: float) -> None:
        """Record what `cleaned` returns."""
        cleaned = {"keep": keep, "until": until}
        self._study.set_user_attr(attributes.CLEANED_KEY, cleaned)
        self._cleaned = cleaned

    @repeated
    def respecify(self, spec: Spec) -> None:
        """Continue with another specification. `hpo.validation.revision` says which parts may differ."""
        if spec != self._spec:
            self._study.set_user_attr(attributes.SPEC_KEY, spec.to_json())
            self._spec = spec

    @repeated
    def heartbeat(self) -> None:
        """Record that this driver is alive. The study's wall-clock time is the sum over its drivers.

        Raises:
            InfrastructureError: another driver took over the study while this one gave no sign of life.
        """
        self._session.renew()

    @repeated
    def _adopt(self) -> None:
        """From now on an earlier version of this tool cannot read the study."""
        if self._study.user_attrs.get(attributes.SCHEMA_KEY) != attributes.SCHEMA:
            self._study.set_user_attr(attributes.SCHEMA_KEY, attributes.SCHEMA)
