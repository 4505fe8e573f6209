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
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeAlias, TypeVar

from hpo.clock import Clock
from hpo.ledger import attributes, recovery
from hpo.ledger.lock import Lease, Session
from hpo.ledger.outcome import OPTUNA_STATE, Ending, Outcome, classify
from hpo.ledger.reader import last_holder, load_study, refuse_existing, repeats_of
from hpo.ledger.records import Attempt, EpochRecord, LeftNode, Origin, Repeat, RungDecision, StudyRecord, TrialRecord
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
    from optuna.trial import FrozenTrial, Trial, TrialState

    Suggest: TypeAlias = Callable[[Trial], tuple[Mapping[str, Choice], Literal["sampler", "random"]]]
    """Draws the parameters of a trial. Returns them, and whether they were learned or drawn at random."""

P = ParamSpec("P")
R = TypeVar("R")


def _repeated(write: Callable[Concatenate[Ledger, P], R]) -> Callable[Concatenate[Ledger, P], R]:
    """Call the method again while its database server is restarting."""

    def patient(self: Ledger, /, *arguments: P.args, **options: P.kwargs) -> R:
        return patiently(self._storage, lambda: write(self, *arguments, **options))

    functools.update_wrapper(patient, write)
    return patient


class Ledger:
    """A study open for writing. Use `create` or `open`."""

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        sampler: BaseSampler | None = None,
        lease: Lease | None = None,
        clock: Clock | None = None,
    ) -> None:
        import optuna

        self._storage = storage
        self._study = optuna.load_study(
            study_name=name, storage=storage, sampler=sampler, pruner=optuna.pruners.NopPruner()
        )
        self.name = name
        stored = self._study.user_attrs
        self._spec = Spec.from_json(stored[attributes.SPEC_KEY])
        self._info = attributes.info_of(stored)
        self._transfer = Transfer.from_json(stored.get(TRANSFER_KEY, {}))
        self.clock = clock or Clock()
        """What every stamp of this driver is read from. It begins after all that is recorded, so that the stamps of a
        study are in order, whatever the clocks of its drivers say."""
        self._session = Session(storage, self._study, lease or Lease.here(""), self.clock)
        self._trials: dict[int, TrialRecord] = {}
        self._watchers: list[Callable[[TrialRecord], None]] = []
        self._ids: dict[int, int] = {}
        self._repeats = repeats_of(storage, name)
        self._ended: str | None = stored.get(attributes.ENDED_KEY)
        self._left = attributes.left_nodes(stored)
        self._refresh()
        newest = recovery.last_sign_of_life(self.trials, self._session.earlier)
        self.clock.not_before(max(newest, self._info.get("created", 0.0)))

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
        import optuna

        enqueue = spec.enqueue if name is None else ()
        name = name or spec.study
        refuse_existing(storage, name)
        if name in optuna.get_all_study_names(storage):  # its creation was cut off
            optuna.delete_study(study_name=name, storage=storage)
        # Scores, of which larger is always better; objectives beside the primary one have their own direction.
        directions = ["maximize", *(other.direction for other in objectives.objectives(spec.objectives)[1:])]
        study = optuna.create_study(
            storage=storage, study_name=name, directions=directions, pruner=optuna.pruners.NopPruner()
        )
        study.set_user_attr(attributes.SCHEMA_KEY, attributes.SCHEMA)
        for values, stored in attributes.enqueued(enqueue, transfer.first):
            study.enqueue_trial(values, user_attrs=stored)
        if transfer != NOTHING:
            study.set_user_attr(TRANSFER_KEY, transfer.to_json())
        study.set_user_attr(attributes.INFO_KEY, dict(info))
        # Last, so that every study with a specification is complete.
        study.set_user_attr(attributes.SPEC_KEY, spec.to_json())
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
        load_study(storage, name)  # for its checks
        lease, clock, read = lease or Lease.here(""), clock or Clock(), functools.partial(last_holder, storage, name)
        holder = read()
        if holder != dead:
            holder = lease.outwait(name, read, say, clock)
        ledger = cls(storage, name, sampler, lease, clock)  # now, since the holder may have written until its end
        ledger._session.take_over(holder)
        ledger.heartbeat()
        ledger._recover()
        return ledger

    def close(self) -> None:
        """Leave no trial RUNNING: unfinished trials wait for `resume`."""
        for trial in list(self._trials.values()):
            if trial.started and trial.outcome is None:
                horizon = self.spec.train.epochs
                self.finish(trial.number, classify(epochs=len(trial.epochs), horizon=horizon, value=trial.value))
        self.heartbeat()
        self._session.end()

    # ---------------------------------------------------------------------------------------- reading

    @property
    def spec(self) -> Spec:
        """The resolved specification."""
        return self._spec

    @property
    def sampler(self) -> BaseSampler:
        """What suggests the parameters of new trials."""
        return self._study.sampler

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        """All trials by number."""
        return tuple(self._trials[number] for number in sorted(self._trials))

    def trial(self, number: int) -> TrialRecord:
        """One trial."""
        return self._trials[number]

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
            driver="open" if self._session.holding else "none",
        )

    def watch(self, watcher: Callable[[TrialRecord], None]) -> None:
        """Tell `watcher` every trial as it is now, and from now on each trial whose record changes."""
        self._watchers.append(watcher)
        for trial in self.trials:
            watcher(trial)

    def unfinished(self) -> tuple[int, ...]:
        """Numbers of the trials that have started and are not final: interrupted, or left by a dead driver."""
        return tuple(trial.number for trial in self.trials if trial.unfinished)

    # ---------------------------------------------------------------------------------------- writing

    @_repeated
    def plan(self, repeats: Sequence[tuple[Repeat, Mapping[str, Choice]]]) -> None:
        """Enqueue trainings of a confirmation. A pair (trial, seed) that is enqueued already and has not failed is
        left out, so a repeated call changes nothing."""
        self._refresh()
        valid = [trial.repeat for trial in self.trials if trial.repeat and trial.status != "failed"]
        planned = {(repeat.trial, repeat.index) for repeat in valid}
        for repeat, values in repeats:
            if (repeat.trial, repeat.index) not in planned:
                stored = {attributes.REPEAT_KEY: dataclasses.asdict(repeat)}
                self._study.enqueue_trial(dict(values), user_attrs=stored)
        self._refresh()

    @_repeated
    def ask(self, suggest: Suggest, seed: Callable[[int], int]) -> TrialRecord:
        """Begin a new trial: the next enqueued configuration, otherwise one that `suggest` draws.

        Args:
            suggest: draws the trial's parameters; returns them and whether they were learned or random.
            seed: gives the seed for a trial's number.
        """
        self._put_back_half_asked()
        asked = self._study.ask()
        self._ids[asked.number] = asked._trial_id
        _, kind = suggest(asked)
        trial = self._read(asked.number)
        baseline = trial.enqueued and not any(self._trials[number].enqueued for number in range(trial.number))
        return self._begin(
            dataclasses.replace(
                trial,
                seed=trial.repeat.seed if trial.repeat else seed(trial.number),
                control=baseline or is_control(self.spec.seed, trial.number, self.spec.asha.controls),
                origin=trial.origin or Origin(kind),
            )
        )

    @_repeated
    def resume(self, number: int) -> TrialRecord:
        """Begin another attempt at an unfinished trial. Its Optuna trial is RUNNING again."""
        from optuna.trial import TrialState

        trial = self._trials[number]
        if self._state(number) is TrialState.WAITING:
            self._storage.set_trial_state_values(self._ids[number], TrialState.RUNNING)
        self._set(number, attributes.OUTCOME_KEY, None)
        return self._begin(dataclasses.replace(trial, outcome=None))

    def _begin(self, trial: TrialRecord) -> TrialRecord:
        gpus = 1.0 if self.spec.resources.gpus == "auto" else float(self.spec.resources.gpus)
        attempt = Attempt(started=self.clock.now(), resumed_after=len(trial.epochs), gpus=gpus)
        return self._start(dataclasses.replace(trial, attempts=(*trial.attempts, attempt)))

    @_repeated
    def lose(self, number: int, reason: str, *, put_back: bool = False) -> TrialRecord:
        """Record that the current attempt lost its worker; `resume` begins the next one.

        Args:
            put_back: whether the node was at fault, so that the attempt does not count.
        """
        trial = self.hold(number)
        return self._start(trial.with_attempt(lost=reason, put_back=put_back))

    @_repeated
    def hold(self, number: int) -> TrialRecord:
        """Record that the current attempt has ended, and that its trial waits."""
        trial = self._trials[number]
        return self._start(trial.with_attempt(ended=trial.attempts[-1].ended or self.clock.now()))

    @_repeated
    def place(self, number: int, host: str, device: str, pid: int) -> None:
        """Record where the current attempt runs."""
        trial = self._trials[number]
        placed = trial.with_attempt(host=host, device=device, pid=pid)
        if placed != trial:
            self._start(placed)

    def _start(self, trial: TrialRecord) -> TrialRecord:
        self._set(trial.number, attributes.START_KEY, attributes.start_to_json(trial))
        return self._keep(trial)

    @_repeated
    def record(self, number: int, metrics: EpochMetrics, decision: RungDecision | None) -> TrialRecord:
        """Record one epoch and the rung decision that followed from it. A repeated epoch changes nothing."""
        trial = self._trials[number]
        if metrics.epoch <= len(trial.epochs):
            return trial
        score = None if self.spec.objective.is_accuracy else self.spec.objective.score_of(metrics)
        epochs = (*trial.epochs, EpochRecord(metrics, self.clock.now(), score))
        rungs = trial.rungs if decision is None or decision in trial.rungs else (*trial.rungs, decision)
        # Metrics and decision are written in one transaction, Optuna's own value after it. If the driver dies between
        # the two, `_recover` writes the value.
        self._set(number, attributes.PROGRESS_KEY, attributes.progress_to_json(epochs, rungs))
        self._report(number, epochs[-1])
        return self._keep(dataclasses.replace(trial, epochs=epochs, rungs=rungs))

    @_repeated
    def finish(self, number: int, outcome: Outcome) -> TrialRecord:
        """Record how a trial ended, or that it was interrupted, here and in Optuna's own state."""
        from optuna.trial import TrialState

        trial = self._trials[number]
        if self._state(number).is_finished():  # a second call, after the answer to the first one was lost
            return self._keep(self._read(number))
        if not outcome.final and trial.attempts[-1].ended is None:  # only a final outcome has a time of its own
            trial = self._start(trial.with_attempt(ended=self.clock.now()))
        finished = (trial.finished or self.clock.now()) if outcome.final else None
        self._set(number, attributes.OUTCOME_KEY, attributes.outcome_to_json(outcome, finished))
        state = TrialState[OPTUNA_STATE[outcome.ending]]
        values = self._values(trial) if outcome.ending in (Ending.COMPLETE, Ending.PRUNED) else None
        self._storage.set_trial_state_values(self._ids[number], state, values)
        return self._keep(dataclasses.replace(trial, outcome=outcome, finished=finished))

    def _values(self, trial: TrialRecord) -> list[float] | None:
        """The values as Optuna keeps them. A pruned trial has its last value, or None with several objectives."""
        names = self.spec.objectives
        values = objectives.values(trial.metrics, names)
        values[:1] = [self.spec.objective.score(value) for value in values[:1]]
        return values if len(values) == len(names) and (trial.pruned_at is None or len(names) == 1) else None

    @_repeated
    def link_run(self, number: int, run_id: str) -> TrialRecord:
        """Record the MLflow run of a trial. Optuna seals trials that have ended, so theirs is kept with the study."""
        trial = self._trials[number]
        if trial.outcome is not None and trial.outcome.final:
            late = self._study.user_attrs.get(attributes.RUNS_KEY, {})
            self._study.set_user_attr(attributes.RUNS_KEY, late | {str(number): run_id})
        else:
            self._set(number, attributes.RUN_KEY, run_id)
        return self._keep(dataclasses.replace(trial, mlflow_run_id=run_id))

    @_repeated
    def end(self, reason: str | None) -> None:
        """Record which part of the budget stopped the study; None: the study continues."""
        if reason != self._ended:
            self._study.set_user_attr(attributes.ENDED_KEY, reason)
            self._ended = reason

    @_repeated
    def leave_nodes(self, nodes: Iterable[LeftNode]) -> None:
        """Record which nodes get no trials of this driver."""
        if (left := tuple(nodes)) != self._left:
            self._study.set_user_attr(attributes.NODES_KEY, [dataclasses.asdict(node) for node in left])
            self._left = left

    def finished_trials(self) -> list[FrozenTrial]:
        """Trials with a final outcome, as Optuna has them."""
        return [trial for trial in self._study.get_trials(deepcopy=False) if trial.state.is_finished()]

    @_repeated
    def respecify(self, spec: Spec) -> None:
        """Continue with another specification. `hpo.validation.revision` says which parts may differ."""
        if spec != self._spec:
            self._study.set_user_attr(attributes.SPEC_KEY, spec.to_json())
            self._spec = spec

    @_repeated
    def heartbeat(self) -> None:
        """Record that this driver is alive. The study's wall-clock time is the sum over its drivers.

        Raises:
            InfrastructureError: another driver took over the study while this one gave no sign of life.
        """
        self._session.renew()

    # --------------------------------------------------------------------------------------- recovery

    @_repeated
    def _recover(self) -> None:
        """Write what a dead driver left unwritten: values and ends, and the state of trials that it left RUNNING."""
        self._put_back_half_asked()
        died = recovery.last_sign_of_life(self.trials, self._session.earlier)
        stored = self._study.get_trials(deepcopy=False)
        for repair in recovery.repairs(stored, self._trials, self.spec.train.epochs):
            trial = repair.trial
            for epoch in repair.unreported:
                self._report(trial.number, epoch)
            if repair.outcome is None:
                continue
            if trial.attempts[-1].ended is None:  # its worker died with the driver, not now
                self._start(trial.with_attempt(ended=died))
            self.finish(trial.number, repair.outcome)

    def _put_back_half_asked(self) -> None:
        from optuna.trial import TrialState

        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for frozen in recovery.half_asked(running, self._trials):
            self._storage.set_trial_state_values(frozen._trial_id, TrialState.WAITING)

    def _refresh(self) -> None:
        late = self._study.user_attrs.get(attributes.RUNS_KEY, {})
        for frozen in self._study.get_trials(deepcopy=False):
            self._ids[frozen.number] = frozen._trial_id
            self._keep(attributes.trial_from_frozen(frozen, late))

    def _state(self, number: int) -> TrialState:
        return self._storage.get_trial(self._ids[number]).state

    def _set(self, number: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(self._ids[number], key, value)

    def _report(self, number: int, epoch: EpochRecord) -> None:
        self._storage.set_trial_intermediate_value(self._ids[number], epoch.metrics.epoch, epoch.value)

    def _read(self, number: int) -> TrialRecord:
        return attributes.trial_from_frozen(self._storage.get_trial(self._ids[number]))

    def _keep(self, trial: TrialRecord) -> TrialRecord:
        self._trials[trial.number] = trial
        for watcher in self._watchers:
            watcher(trial)
        return trial
