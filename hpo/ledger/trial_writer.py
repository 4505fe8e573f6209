"""Writes the trials of a study that is open: each method is one transaction, where Optuna's tables are known.

Where a trial runs and which MLflow run is its own wait for the trial's next transaction, or for `write_notes`: nothing
is derived from them, and a driver that dies before that finds them again.

Every method may be cut off at any point, also between two values where Optuna's own interface writes them one by one.
What it writes is made before it is written, so a write that a restarting server refused is repeated as it was.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeAlias, TypeVar

from hpo.clock import Clock
from hpo.gpu_sharing import held, per_trial
from hpo.ledger import attributes
from hpo.ledger.outcome import Ending, Outcome, stored_state
from hpo.ledger.records import Attempt, EpochRecord, Origin, Phase, RungDecision, TrialRecord
from hpo.ledger.storage import patiently
from hpo.ledger.tables import names, recovery
from hpo.ledger.tables.changes import Change
from hpo.ledger.tables.trials import Trials
from hpo.spec import objectives
from hpo.spec.parameters import Choice
from hpo.spec.seeds import is_control
from hpo.spec.study import Spec
from trainers.api import EpochMetrics

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

    Suggest: TypeAlias = Callable[[Trial], tuple[Mapping[str, Choice], Literal["sampler", "random"]]]
    """Draws the parameters of a trial. Returns them, and whether they were learned or drawn at random."""


P = ParamSpec("P")
R = TypeVar("R")
W = TypeVar("W", bound="_Writer")


class _Writer(Protocol):
    _storage: BaseStorage


def repeated(write: Callable[Concatenate[W, P], R]) -> Callable[Concatenate[W, P], R]:
    """Call the method again while its database server is restarting."""

    def patient(self: W, /, *arguments: P.args, **options: P.kwargs) -> R:
        return patiently(self._storage, lambda: write(self, *arguments, **options))

    functools.update_wrapper(patient, write)
    return patient


class TrialWriter:
    """The trials of a study, as recorded, and the only code that writes them."""

    def __init__(self, storage: BaseStorage, study: Study, spec: Spec, clock: Clock) -> None:
        self._storage = storage
        self._study = study
        self._spec = spec
        self.clock = clock
        """What every stamp of this driver is read from. It begins after all that is recorded, so that the stamps of a
        study are in order, whatever the clocks of its drivers say."""
        self._late_runs: dict[str, str] = study.user_attrs.get(attributes.RUNS_KEY, {})
        self._packing = attributes.packing(study.user_attrs)
        self._stored = Trials(storage, study)
        self._trials: dict[int, TrialRecord] = {}
        self._watchers: list[Callable[[TrialRecord], None]] = []
        self._noted: dict[int, set[str]] = {}
        """Attributes that wait for the next transaction of their trial, by its number."""
        self._asking = False
        self._requested: dict[str, int] = {}
        """Numbers of the trials that people added while the study ran, by request."""
        self._reload()

    @property
    def spec(self) -> Spec:
        """The resolved specification."""
        return self._spec

    @property
    def gpus(self) -> float:
        """GPUs of each trial, unless the trial is to be alone on one."""
        return per_trial(self.spec.resources.gpus, self._packing)

    @property
    def sampler(self) -> BaseSampler:
        """What suggests the parameters of new trials."""
        return self._study.sampler

    @sampler.setter
    def sampler(self, sampler: BaseSampler) -> None:
        self._study.sampler = self._stored.study.sampler = sampler

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        """All trials by number."""
        return tuple(self._trials.values())

    def trial(self, number: int) -> TrialRecord:
        """One trial."""
        return self._trials[number]

    def watch(self, watcher: Callable[[TrialRecord], None]) -> None:
        """Tell `watcher` every trial as it is now, and from now on each trial whose record changes."""
        self._watchers.append(watcher)
        for trial in self.trials:
            watcher(trial)

    def unfinished(self) -> tuple[int, ...]:
        """Numbers of the trials that have started and train on when they can: interrupted, or left by a dead driver."""
        return tuple(trial.number for trial in self.trials if trial.unfinished)

    @property
    def searched(self) -> Study:
        """The study as samplers see it. It is kept in memory; do not change it."""
        return self._stored.study

    @repeated
    def ask(self, suggest: Suggest, seed: Callable[[int], int]) -> TrialRecord:
        """Begin a new trial: the next enqueued configuration, otherwise one that `suggest` draws.

        Nothing is written before the parameters are drawn.

        Args:
            suggest: draws the trial's parameters; returns them and whether they were learned or random.
            seed: gives the seed for a trial's number.
        """
        if self._asking:  # an error cut the last call off
            self._put_back_half_asked()
        self._asking = True
        asked = self._stored.ask()
        _, kind = suggest(asked)
        frozen = self._stored.frozen(asked.number)
        trial = attributes.trial_from_frozen(frozen)
        baseline = trial.enqueued and not any(self._trials[number].enqueued for number in range(trial.number))
        begun = self._begin(
            dataclasses.replace(
                trial,
                seed=trial.repeat.seed if trial.repeat else seed(trial.number),
                control=baseline or bool(trial.settings) or self._is_drawn_control(trial.number),
                origin=trial.origin or Origin(kind),
            )
        )
        self._write(begun, names.START_KEY, begun=frozen)
        self._asking = False
        return begun

    def _is_drawn_control(self, number: int) -> bool:
        return is_control(self.spec.seed, number, self.spec.asha.controls)

    def enqueue(self, values: Mapping[str, Choice], by: str, request: str) -> int:
        """Let `ask` begin this configuration next; returns the number of its trial. A repeated call adds no other.

        Args:
            values: of all active parameters, by dotted path, and other settings and a label as in `Spec.enqueue`.
            by: who asks for it.
            request: unique to what is asked for.
        """
        origin = dataclasses.asdict(Origin("enqueued", by))
        searched, stored = attributes.chosen(values, self.spec.space)
        stored |= {names.ORIGIN_KEY: origin, names.REQUESTED_KEY: request}
        if request not in self._requested:
            frozen = self._enqueue(searched, stored)
            self._requested[request] = frozen.number
            self._keep(attributes.trial_from_frozen(frozen))
        return self._requested[request]

    @repeated
    def _enqueue(self, values: dict[str, Choice], stored: dict[str, Any]) -> FrozenTrial:
        return self._stored.enqueue(values, stored, same=names.REQUESTED_KEY)

    def resume(self, number: int) -> TrialRecord:
        """Begin another attempt at a trial that is unfinished, or kept. Its Optuna trial is RUNNING again."""
        from optuna.trial import TrialState

        before = self._trials[number]
        trial = self._begin(dataclasses.replace(before, outcome=None))
        if before.kept:
            trial = trial.with_attempt(taken_up=True)
        return self._write(trial, names.OUTCOME_KEY, names.START_KEY, state=TrialState.RUNNING)

    def _begin(self, trial: TrialRecord) -> TrialRecord:
        gpus = held(self.gpus, alone=trial.alone)
        attempt = Attempt(started=self.clock.now(), resumed_after=len(trial.epochs), gpus=gpus)
        return dataclasses.replace(trial, attempts=(*trial.attempts, attempt))

    def lose(self, number: int, reason: str, *, put_back: bool = False, crowded: bool = False) -> TrialRecord:
        """Record that the current attempt lost its worker; `resume` begins the next one.

        Args:
            put_back: whether the node or the neighbours were at fault, so that the attempt does not count.
            crowded: whether it ran out of memory beside other trials, so that the next attempt gets a whole GPU.
        """
        lost = self._rested(self._trials[number]).with_attempt(lost=reason, put_back=put_back, crowded=crowded)
        return self._write(lost, names.START_KEY)

    def hold(self, number: int) -> TrialRecord:
        """Record that the current attempt has ended, and that its trial waits."""
        return self._write(self._rested(self._trials[number]), names.START_KEY)

    def _rested(self, trial: TrialRecord, ended: float | None = None) -> TrialRecord:
        return trial.with_attempt(ended=trial.attempts[-1].ended or ended or self.clock.now())

    def place(self, number: int, host: str, device: str, pid: int, phase: Phase | None = None) -> TrialRecord:
        """Note where the current attempt runs and, unless that is None, what its worker does from now on."""
        trial = self._trials[number]
        placed = trial.with_attempt(host=host, device=device, pid=pid)
        if phase is not None:
            placed = placed.with_attempt(phase=phase, phase_since=self.clock.now())
        return trial if placed == trial else self._note(placed, names.START_KEY)

    def record(self, number: int, metrics: EpochMetrics, decision: RungDecision | None) -> TrialRecord:
        """Record one epoch and the rung decision that followed from it. A repeated epoch changes nothing."""
        trial = self._trials[number]
        if metrics.epoch <= len(trial.epochs):
            return trial
        score = None if self.spec.objective.is_accuracy else self.spec.objective.score_of(metrics)
        epoch = EpochRecord(metrics, self.clock.now(), score)
        new = () if decision is None or decision in trial.rungs else (decision,)
        stored = {attributes.epoch_key(metrics.epoch): attributes.epoch_to_json(epoch, *new)}
        stored |= self._content(trial, *self._noted.get(number, ()))
        self._stored.write(Change(number, stored, epoch.recorded, {metrics.epoch: epoch.value}))
        self._noted.pop(number, None)
        return self._keep(dataclasses.replace(trial, epochs=(*trial.epochs, epoch), rungs=(*trial.rungs, *new)))

    def finish(self, number: int, outcome: Outcome) -> TrialRecord:
        """Record how a trial ended, or that it was interrupted, here and in Optuna's own state."""
        trial = self._trials[number]
        ended = trial.outcome is not None and trial.outcome.final
        return trial if ended else self._finish(trial, outcome)

    def let_go(self) -> list[TrialRecord]:
        """The study ends: pruned trials that are kept will not be taken up any more. Returns them."""
        kept = [(trial.number, trial.outcome) for trial in self.trials if trial.outcome is not None and trial.kept]
        return [self.finish(number, dataclasses.replace(outcome, kept=False)) for number, outcome in kept]

    def _finish(
        self, trial: TrialRecord, outcome: Outcome, died: float | None = None, unreported: Sequence[EpochRecord] = ()
    ) -> TrialRecord:
        """Record the end of a trial.

        Args:
            died: when its worker did, if the driver died with it.
            unreported: epochs whose value Optuna does not have.
        """
        from optuna.trial import TrialState

        keys = [names.OUTCOME_KEY]
        if died is not None or not outcome.final:  # only a final outcome has a time of its own
            trial, keys = self._rested(trial, died), [names.START_KEY, *keys]
        finished = (trial.finished or self.clock.now()) if outcome.final else None
        state = TrialState[stored_state(outcome, judged=bool(trial.rungs))]
        return self._write(
            dataclasses.replace(trial, outcome=outcome, finished=finished),
            *keys,
            state=state,
            values=self._values(trial, outcome) if state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
            reports={epoch.metrics.epoch: epoch.value for epoch in unreported},
        )

    def _values(self, trial: TrialRecord, outcome: Outcome) -> list[float] | None:
        """The values as Optuna keeps them. A pruned trial has its last value, or None with several objectives."""
        names = self.spec.objectives
        values = objectives.values(trial.metrics, names)
        values[:1] = [self.spec.objective.score(value) for value in values[:1]]
        return values if len(values) == len(names) and (outcome.ending is Ending.COMPLETE or len(names) == 1) else None

    def link_run(self, number: int, run_id: str) -> TrialRecord:
        """Note the MLflow run of a trial."""
        trial = dataclasses.replace(self._trials[number], mlflow_run_id=run_id)
        ended = trial.outcome is not None and trial.outcome.final
        if (ended and self._stored.seals) or str(number) in self._late_runs:
            return self._link_late(trial, run_id)
        return self._note(trial, names.RUN_KEY)

    @repeated
    def _link_late(self, trial: TrialRecord, run_id: str) -> TrialRecord:
        """Optuna's own interface seals trials that have ended, so the study keeps their runs."""
        self._late_runs = self._late_runs | {str(trial.number): run_id}
        self._study.set_user_attr(attributes.RUNS_KEY, self._late_runs)
        return self._keep(trial)

    def write_notes(self) -> None:
        """Write at once, for all trials, what was noted and not written yet."""
        if self._noted:
            self._stored.write_attributes(
                {number: self._content(self._trials[number], *keys) for number, keys in self._noted.items()}
            )
            self._noted.clear()

    def _note(self, trial: TrialRecord, key: str) -> TrialRecord:
        """Keep a trial whose attribute has changed; it is written later."""
        self._noted.setdefault(trial.number, set()).add(key)
        return self._keep(trial)

    def _write(self, trial: TrialRecord, *keys: str, **more: Any) -> TrialRecord:
        """Write these attributes of a trial, what was noted of it, and what else changes, at once."""
        stored = self._content(trial, *keys, *self._noted.get(trial.number, ()))
        self._stored.write(Change(trial.number, stored, self.clock.now(), **more))
        self._noted.pop(trial.number, None)
        return self._keep(trial)

    def _content(self, trial: TrialRecord, *keys: str) -> dict[str, Any]:
        return {key: attributes.STORED[key](trial) for key in keys}

    def _recover(self, died: float) -> None:
        """Write what a dead driver left unwritten: values and ends, and the state of trials that it left RUNNING.

        Args:
            died: when its workers were last known to train.
        """
        self._put_back_half_asked()
        horizon, keep = self.spec.train.epochs, self.spec.search.landing
        for repair in recovery.repairs(self._stored.all(), self._trials, horizon, keep=keep):
            trial = repair.trial
            if repair.outcome is not None:
                self._finish(trial, repair.outcome, died, repair.unreported)
            elif repair.unreported:
                reports = {epoch.metrics.epoch: epoch.value for epoch in repair.unreported}
                self._write(trial, names.START_KEY, reports=reports)

    @repeated
    def _put_back_half_asked(self) -> None:
        for frozen in recovery.half_asked(self._stored.running(), self._trials):
            self._stored.put_back(frozen.number)

    def _reload(self) -> None:
        for frozen in self._stored.read():
            self._keep(attributes.trial_from_frozen(frozen, self._late_runs))
            if (request := frozen.user_attrs.get(names.REQUESTED_KEY)) is not None:
                self._requested[request] = frozen.number

    def _keep(self, trial: TrialRecord) -> TrialRecord:
        self._trials[trial.number] = trial
        for watcher in self._watchers:
            watcher(trial)
        return trial
