"""The one writer of a study's ledger, the Optuna storage.

Invariants:
- A trial's record here is always at least as new as anything derived from it (MLflow, ASHA's rungs, a report).
- Every method may be cut off at any point: `Ledger.open` finishes what a dead driver left half-written, and
  calling the method again does what is still undone. So a write that a restarting server refused is repeated.
- Only one driver has a study open at a time (`hpo.ledger.lock`), so the records held in memory are the truth.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar

from hpo.ledger import attributes as form
from hpo.ledger.lock import Lease
from hpo.ledger.outcome import OPTUNA_STATE, Ending, Outcome, classify
from hpo.ledger.reader import load_study, refuse_existing, repeats_of
from hpo.ledger.records import Attempt, EpochRecord, Origin, Repeat, RungDecision, StudyRecord, TrialRecord
from hpo.ledger.storage import patiently
from hpo.ledger.transfer import NOTHING, TRANSFER_KEY, Transfer
from hpo.spec import objectives
from hpo.spec.parameters import Choice
from hpo.spec.seeds import is_control
from hpo.spec.study import Spec
from trainers.api import EpochMetrics

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, Trial

    Suggest: TypeAlias = Callable[[Trial], tuple[Mapping[str, Choice], Literal["sampler", "random"]]]
    """Draws the parameters of a trial; returns them, and whether they were learned or drawn at random."""

P = ParamSpec("P")
R = TypeVar("R")


def _repeated(write: Callable[Concatenate[Ledger, P], R]) -> Callable[Concatenate[Ledger, P], R]:
    """Has a method called again while its database server is restarting."""

    def patient(self: Ledger, /, *arguments: P.args, **options: P.kwargs) -> R:
        return patiently(self._storage, lambda: write(self, *arguments, **options))

    functools.update_wrapper(patient, write)
    return patient


class Ledger:
    """A study open for writing. Use `create` or `open`."""

    def __init__(
        self, storage: BaseStorage, name: str, sampler: BaseSampler | None = None, lease: Lease | None = None
    ) -> None:
        import optuna

        self._storage = storage
        self._study = optuna.load_study(
            study_name=name, storage=storage, sampler=sampler, pruner=optuna.pruners.NopPruner()
        )
        self.name = name
        attributes = self._study.user_attrs
        self._spec = Spec.from_json(attributes[form.SPEC_KEY])
        self._info = form.info_of(attributes)
        self._transfer = Transfer.from_json(attributes.get(TRANSFER_KEY, {}))
        self._sessions: tuple[tuple[float, float], ...] = tuple(map(tuple, attributes.get(form.SESSIONS_KEY, ())))
        self._trials: dict[int, TrialRecord] = {}
        self._ids: dict[int, int] = {}
        self._session = time.time()
        self._lease = lease or Lease.here("")
        self._repeats = repeats_of(storage, name)
        self._ended: str | None = attributes.get(form.ENDED_KEY)
        self._refresh()

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
    ) -> Ledger:
        """Record a new study, its enqueued configurations and what it takes over from earlier ones; or the
        confirmation of a study, which begins empty.

        Args:
            name: of a confirmation; None for a study, whose specification has its name.

        Raises:
            UsageError: a study of that name exists.
        """
        import optuna

        enqueued = spec.enqueue if name is None else ()
        name = name or spec.study
        refuse_existing(storage, name)
        if name in optuna.get_all_study_names(storage):  # one whose creation was cut off
            optuna.delete_study(study_name=name, storage=storage)
        directions = [one.direction for one in objectives.objectives(spec.objectives)]
        study = optuna.create_study(
            storage=storage, study_name=name, directions=directions, pruner=optuna.pruners.NopPruner()
        )
        study.set_user_attr(form.SCHEMA_KEY, form.SCHEMA)
        for number, values in enumerate(enqueued):
            origin = Origin("enqueued" if number else "baseline")
            attributes = {form.BASELINE_KEY: True, form.ORIGIN_KEY: dataclasses.asdict(origin)}
            study.enqueue_trial(dict(values), user_attrs=attributes)
        for past in transfer.first:
            origin = Origin("transferred", past.source, past.trial)
            study.enqueue_trial(dict(past.values), user_attrs={form.ORIGIN_KEY: dataclasses.asdict(origin)})
        if transfer != NOTHING:
            study.set_user_attr(TRANSFER_KEY, transfer.to_json())
        study.set_user_attr(form.INFO_KEY, dict(info))
        # Last, so that a study with a specification is a study that is whole.
        study.set_user_attr(form.SPEC_KEY, spec.to_json())
        ledger = cls(storage, name, sampler, lease)
        ledger.heartbeat()
        return ledger

    @classmethod
    def open(
        cls, storage: BaseStorage, name: str, sampler: BaseSampler | None = None, lease: Lease | None = None
    ) -> Ledger:
        """Open an existing study and settle what a dead driver left behind.

        Raises:
            UsageError: no study of that name, or another driver that is alive holds it.
            InfrastructureError: written by another version of this tool.
        """
        load_study(storage, name)  # the checks live there
        ledger = cls(storage, name, sampler, lease)
        ledger._lease.refuse_other(name, ledger._study.user_attrs.get(form.HOLDER_KEY))
        ledger._study.set_user_attr(form.HOLDER_KEY, ledger._lease.stored(time.time()))
        ledger.heartbeat()
        ledger._settle()
        return ledger

    def close(self) -> None:
        """Leave no trial RUNNING: what is unfinished waits for `resume`."""
        for trial in list(self._trials.values()):
            if trial.started and trial.outcome is None:
                self.finish(
                    trial.number,
                    classify(epochs=len(trial.epochs), horizon=self.spec.train.epochs, value=trial.value),
                )
        self.heartbeat()
        self._study.set_user_attr(form.HOLDER_KEY, None)

    # ---------------------------------------------------------------------------------------- reading

    @property
    def spec(self) -> Spec:
        """The resolved specification."""
        return self._spec

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        """All trials by number."""
        return tuple(self._trials[number] for number in sorted(self._trials))

    def trial(self, number: int) -> TrialRecord:
        """One trial."""
        return self._trials[number]

    @property
    def study(self) -> StudyRecord:
        """The whole study as it stands; reads nothing, so it is to be had when the database has failed."""
        return StudyRecord(
            self.name, self.spec, self._info, self.trials, self._sessions, self._transfer, self._repeats, self._ended
        )

    def unfinished(self) -> tuple[int, ...]:
        """Trials that began and have no final outcome: interrupted, or left by a dead driver."""
        return tuple(
            trial.number
            for trial in self.trials
            if trial.started and (trial.outcome is None or not trial.outcome.final)
        )

    # ---------------------------------------------------------------------------------------- writing

    @_repeated
    def plan(self, repeats: Sequence[tuple[Repeat, Mapping[str, Choice]]]) -> None:
        """Have configurations trained again, each (trial, seed) once however often it is planned, unless it failed."""
        self._refresh()
        known = [trial for trial in self.trials if trial.repeat and trial.status != "failed"]
        planned = {(trial.repeat.trial, trial.repeat.index) for trial in known if trial.repeat}
        for repeat, values in repeats:
            if (repeat.trial, repeat.index) not in planned:
                attributes = {form.REPEAT_KEY: dataclasses.asdict(repeat)}
                self._study.enqueue_trial(dict(values), user_attrs=attributes)
        self._refresh()

    @_repeated
    def ask(self, suggest: Suggest, seed: Callable[[int], int]) -> TrialRecord:
        """Begin a new trial: the next enqueued configuration, else one that `suggest` draws.

        Args:
            suggest: draws the trial's parameters; returns them and whether they were learned or random.
            seed: of a trial's number.
        """
        self._requeue_half_asked()
        trial = self._study.ask()
        self._ids[trial.number] = trial._trial_id
        _, kind = suggest(trial)
        known = self._read(trial.number)
        first = not any(other.enqueued for other in self._trials.values() if other.number < trial.number)
        origin = known.origin or Origin(kind)
        drawn = is_control(self.spec.seed, trial.number, self.spec.asha.controls)
        control = drawn or (known.enqueued and first)
        own = known.repeat.seed if known.repeat else seed(trial.number)
        known = dataclasses.replace(known, seed=own, control=control, origin=origin)
        return self._begin(known)

    @_repeated
    def resume(self, number: int) -> TrialRecord:
        """Begin another attempt at an unfinished trial: the same Optuna trial, RUNNING again."""
        from optuna.trial import TrialState

        trial = self._trials[number]
        if self._storage.get_trial(self._ids[number]).state is TrialState.WAITING:
            self._storage.set_trial_state_values(self._ids[number], TrialState.RUNNING)
        self._storage.set_trial_user_attr(self._ids[number], form.OUTCOME_KEY, None)
        return self._begin(dataclasses.replace(trial, outcome=None))

    def _begin(self, trial: TrialRecord) -> TrialRecord:
        asked = self.spec.resources.gpus
        gpus = 1.0 if asked == "auto" else float(asked)
        attempt = Attempt(started=time.time(), resumed_after=len(trial.epochs), gpus=gpus)
        return self._start(dataclasses.replace(trial, attempts=(*trial.attempts, attempt)))

    @_repeated
    def lose(self, number: int, reason: str) -> TrialRecord:
        """Record that the current attempt lost its worker; `resume` begins the next one."""
        return self._start(self._with_attempt(self._trials[number], lost=reason, ended=time.time()))

    @_repeated
    def place(self, number: int, host: str, device: str, pid: int) -> None:
        """Record where the current attempt runs."""
        trial = self._trials[number]
        placed = self._with_attempt(trial, host=host, device=device, pid=pid)
        if placed != trial:
            self._start(placed)

    def _with_attempt(self, trial: TrialRecord, **changes: Any) -> TrialRecord:
        current = dataclasses.replace(trial.attempts[-1], **changes)
        return dataclasses.replace(trial, attempts=(*trial.attempts[:-1], current))

    def _start(self, trial: TrialRecord) -> TrialRecord:
        self._storage.set_trial_user_attr(self._ids[trial.number], form.START_KEY, form.start_to_json(trial))
        return self._keep(trial)

    @_repeated
    def record(self, number: int, metrics: EpochMetrics, decision: RungDecision | None) -> TrialRecord:
        """Record one epoch and the rung decision it led to. An epoch recorded before changes nothing."""
        trial = self._trials[number]
        if metrics.epoch <= len(trial.epochs):
            return trial
        epochs = (*trial.epochs, EpochRecord(metrics, time.time()))
        rungs = trial.rungs if decision is None or decision in trial.rungs else (*trial.rungs, decision)
        # One transaction holds the metrics and the decision; Optuna's own value follows, and `_settle` repeats it.
        self._storage.set_trial_user_attr(self._ids[number], form.PROGRESS_KEY, form.progress_to_json(epochs, rungs))
        self._storage.set_trial_intermediate_value(self._ids[number], metrics.epoch, metrics.val_accuracy)
        return self._keep(dataclasses.replace(trial, epochs=epochs, rungs=rungs))

    @_repeated
    def finish(self, number: int, outcome: Outcome) -> TrialRecord:
        """Record how a trial ended (or that it was interrupted) and tell Optuna."""
        from optuna.trial import TrialState

        trial = self._trials[number]
        if self._storage.get_trial(self._ids[number]).state.is_finished():  # repeated after a lost answer
            return self._keep(self._read(number))
        if not outcome.final and trial.attempts[-1].ended is None:  # Optuna records when the others ended
            trial = self._start(self._with_attempt(trial, ended=time.time()))
        self._storage.set_trial_user_attr(self._ids[number], form.OUTCOME_KEY, form.outcome_to_json(outcome))
        state = TrialState[OPTUNA_STATE[outcome.ending]]
        values = self._values(trial) if outcome.ending in (Ending.COMPLETE, Ending.PRUNED) else None
        self._storage.set_trial_state_values(self._ids[number], state, values)
        finished = time.time() if outcome.final else None
        return self._keep(dataclasses.replace(trial, outcome=outcome, finished=finished))

    def _values(self, trial: TrialRecord) -> list[float] | None:
        """As Optuna itself has them: of a pruned trial the last value, but none where there are several objectives."""
        names = self.spec.objectives
        known = objectives.values(trial.metrics, names)
        return known if len(known) == len(names) and (trial.pruned_at is None or len(names) == 1) else None

    @_repeated
    def link_run(self, number: int, run_id: str) -> TrialRecord:
        """Record the MLflow run of a trial; Optuna seals ended trials, so theirs stands with the study."""
        trial = self._trials[number]
        if trial.outcome is not None and trial.outcome.final:
            late = self._study.user_attrs.get(form.RUNS_KEY, {})
            self._study.set_user_attr(form.RUNS_KEY, late | {str(number): run_id})
        else:
            self._storage.set_trial_user_attr(self._ids[number], form.RUN_KEY, run_id)
        return self._keep(dataclasses.replace(trial, mlflow_run_id=run_id))

    @_repeated
    def end(self, reason: str | None) -> None:
        """Record which part of the budget has ended the study; None: it goes on."""
        if reason != self._ended:
            self._study.set_user_attr(form.ENDED_KEY, reason)
            self._ended = reason

    def finished_trials(self) -> list[FrozenTrial]:
        """Trials with a final outcome, as Optuna has them."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.state.is_finished()]

    @_repeated
    def respecify(self, spec: Spec) -> None:
        """Go on with another specification; `hpo.validation.revision` says which parts may differ."""
        if spec != self._spec:
            self._study.set_user_attr(form.SPEC_KEY, spec.to_json())
            self._spec = spec

    @_repeated
    def heartbeat(self) -> None:
        """Record that this driver is alive; the study's wall-clock is the sum over its drivers.

        Raises:
            InfrastructureError: another driver took the study over while this one gave no sign of life.
        """
        now = time.time()
        attributes = self._study.user_attrs
        self._lease.check(self.name, attributes.get(form.HOLDER_KEY))
        self._study.set_user_attr(form.HOLDER_KEY, self._lease.stored(now))
        earlier = tuple(one for one in self._sessions if one[0] != self._session)
        self._sessions = (*earlier, (self._session, now))
        self._study.set_user_attr(form.SESSIONS_KEY, self._sessions)

    # --------------------------------------------------------------------------------------- recovery

    @_repeated
    def _settle(self) -> None:
        """Finish half-written records: values Optuna lacks, ends that were decided but not told to it, and trials
        that a dead driver left RUNNING."""
        self._requeue_half_asked()
        for frozen in self._study.get_trials(deepcopy=False):
            trial = self._trials[frozen.number]
            if not trial.started or frozen.state.is_finished():
                continue
            for epoch in trial.epochs:
                if epoch.metrics.epoch not in frozen.intermediate_values:
                    self._storage.set_trial_intermediate_value(
                        frozen._trial_id, epoch.metrics.epoch, epoch.metrics.val_accuracy
                    )
            outcome = trial.outcome
            if outcome is None or not outcome.final:
                outcome = classify(
                    epochs=len(trial.epochs),
                    horizon=self.spec.train.epochs,
                    value=trial.value,
                    pruned_at=trial.pruned_at,
                )
            if trial.outcome != outcome or frozen.state.name != OPTUNA_STATE[outcome.ending]:
                if trial.attempts[-1].ended is None:  # its worker died with the driver, not now
                    self._start(self._with_attempt(trial, ended=self._left(trial)))
                self.finish(trial.number, outcome)

    def _left(self, trial: TrialRecord) -> float:
        """When the driver before this one, which left a trial RUNNING, last gave a sign of life."""
        signs = [end for start, end in self._sessions if start != self._session]
        return max([trial.attempts[-1].started, *(epoch.recorded for epoch in trial.epochs[-1:]), *signs])

    def _requeue_half_asked(self) -> None:
        """Put trials back that Optuna has begun but nobody has: `ask` was cut off. Their number and whatever
        parameters they have are kept, so the study has neither a gap nor an extra trial."""
        from optuna.trial import TrialState

        for frozen in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            known = self._trials.get(frozen.number)
            if not frozen.user_attrs.get(form.START_KEY) and (known is None or not known.started):
                self._storage.set_trial_state_values(frozen._trial_id, TrialState.WAITING)

    def _refresh(self) -> None:
        late = self._study.user_attrs.get(form.RUNS_KEY, {})
        for frozen in self._study.get_trials(deepcopy=False):
            self._ids[frozen.number] = frozen._trial_id
            self._keep(form.trial_from_frozen(frozen, late))

    def _read(self, number: int) -> TrialRecord:
        return form.trial_from_frozen(self._storage.get_trial(self._ids[number]))

    def _keep(self, trial: TrialRecord) -> TrialRecord:
        self._trials[trial.number] = trial
        return trial
