"""`gp` without ASHA: at the ends of some epochs, a worker goes on with the trial that promises most (`rule`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.trial import TrialState
from scipy.special import log_ndtr

from hpo.search.landing import EpochSeconds
from hpo.search.policies.acquisition import LEADERS, Prediction, maximise
from hpo.search.policies.curve_gp import CurveGPSampler
from hpo.search.policies.gp import MIN_TRIALS, Acquisition, EndModel, curve
from hpo.search.policies.gp_regression import Kernel, Posterior
from hpo.search.policies.history import View
from hpo.search.policies.linear_algebra import one_thread
from hpo.search.policies.seen import Seen
from hpo.search.unit_cube import Array
from reports.benchmarks.search.freeze_thaw.costs import Costs
from reports.benchmarks.search.freeze_thaw.rule import Choice, Outlook, next_up
from reports.benchmarks.search.lcbench import EPOCHS

STARTUP_TRIALS = MIN_TRIALS
"""Evenly spread first trials: as few as the model needs."""
DECISIONS = (2, 5, 12, 25)
"""Epochs at whose end a trial may have to give up its worker."""
COST_POWER = 0.5
"""New configurations maximise the expected improvement over the seconds to this power."""
SPREAD = 0.2
"""Standard deviation of the logarithm of predicted seconds, where a new trial has to be complete in time."""
BEFORE = 0.5
"""While no trial is complete, this quantile of the predicted ends is to be beaten."""
STALE = 3
"""Decisions for which a suggestion and the model of costs are kept. It saves computing time only."""
GROWTH = 1.1
"""The kernel is fitted again with so many times the observations."""


@dataclass
class _Trial:
    params: Mapping[str, Any]
    cube: Array
    values: dict[int, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    state: TrialState = TrialState.RUNNING
    """`PRUNED` while it is paused."""


class FreezeThawSearch:
    """Model, costs and rule together. Every fifth of the new trials is drawn at random, as in `gp`."""

    def __init__(self, sampler: CurveGPSampler) -> None:
        self._sampler = sampler
        self._history = sampler.history()
        """Empty: for suggestions that are learned from nothing."""
        self._space = self._history.space
        self.trials: dict[int, _Trial] = {}
        self._left = math.inf
        self._kernel: tuple[Kernel, int] | None = None
        self._point: Array | None = None
        self._new_costs: EpochSeconds | None = None
        self._age = 0
        self._chosen: tuple[int | None] | None = None
        """What the worker of a paused trial trains next."""
        self.resumed: list[int] = []
        """Trials, in the order in which they were taken up again."""

    def take_up(self, left: float) -> int | None:
        """Return the trial that a free worker goes on with; None: it begins a new one."""
        self._left = left
        (number,) = self._chosen or (self._decide(),)
        self._chosen = None
        if number is not None:
            self.trials[number].state = TrialState.RUNNING
            self.resumed.append(number)
        return number

    def suggest(self, trial: int) -> Mapping[str, Any]:
        """Return the suggestion that has been compared, or an evenly spread one."""
        if self._point is None or self._sampler.is_spread(trial):
            params = self._sampler.suggest(self._history, trial).values
        else:
            params = self._space.decode(self._point[None])[0]
        self.trials[trial] = _Trial(params, self._space.encode([params])[0])
        self._point = None
        return params

    def spend(self, trial: int, seconds: float, left: float) -> None:
        """Note the cost of an epoch, and the time that is left."""
        self.trials[trial].seconds.append(seconds)
        self._left = left

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Record a value; return whether the trial keeps its worker."""
        trial = self.trials[number]
        trial.values[epoch] = value
        if epoch == EPOCHS:
            trial.state = TrialState.COMPLETE
            return False
        too_late = epoch > 1 and self._costs().per_epoch(number) * (EPOCHS - epoch) > self._left
        if epoch not in DECISIONS and not too_late:
            return True
        trial.state = TrialState.PRUNED
        chosen = self._decide()
        if chosen == number:
            trial.state = TrialState.RUNNING
            return True
        self._chosen = (chosen,)
        return False

    def _decide(self) -> int | None:
        """What the worker of a trial, or a free one, trains next; None: a new trial."""
        self._age += 1
        if sum(bool(trial.values) for trial in self.trials.values()) < MIN_TRIALS:
            return None
        with one_thread():
            return self._choose(self._model(), self._costs())

    def _choose(self, model: EndModel, costs: Costs) -> int | None:
        believed = model.believed()
        if self._point is None or self._age >= STALE:
            self._new_costs = costs.of_new(self._space, {number: one.cube for number, one in self.trials.items()})
            self._point, self._age = self._propose(model, believed, costs), 0
        mean, deviation = (values.tolist() for values in model.predict(model.features))
        ends = {number: Prediction(*pair) for number, pair in enumerate(zip(mean, deviation, strict=True))}
        to_end = {number: self._to_end(number, costs) for number in self.trials}
        paused = [number for number, trial in self.trials.items() if trial.state == TrialState.PRUNED]
        shown = self._shown(model, model.posterior, model.features[paused], [self._next(number) for number in paused])
        unfinished = {
            number: Choice(ends[number], move, self._stretch(number, costs), to_end[number])
            for number, move in zip(paused, shown, strict=True)
        }
        running = [(to_end[number], ends[number].mean) for number in model.running]
        outlook = Outlook.of(self._best(ends), running, self._left)
        return next_up(unfinished, self._new(model, believed, costs), outlook, self._left)

    def _new(self, model: EndModel, believed: Posterior, costs: Costs) -> Choice:
        """The suggestion as a choice."""
        assert self._point is not None
        assert self._new_costs is not None
        features = self._space.features(self._point[None])
        (mean,), (deviation,) = believed.predict(model.at(features, [EPOCHS]))
        per_epoch = float(self._new_costs.predict(self._point[None])[0])
        (shown,) = self._shown(model, believed, features, [DECISIONS[0]])
        before = costs.first_epoch - 1
        return Choice(
            Prediction(mean, deviation), shown, per_epoch * (DECISIONS[0] + before), per_epoch * (EPOCHS + before)
        )

    def _shown(self, model: EndModel, posterior: Posterior, features: Array, epochs: list[int]) -> list[float]:
        """How far values at these epochs will move the predicted ends: standard deviations."""
        if not epochs:
            return []
        end, then = model.at(features, [EPOCHS] * len(epochs)), model.at(features, epochs)
        both = posterior.covariances(end, then)
        _, deviation = posterior.predict(then)
        return list(np.abs(both) / np.sqrt(deviation**2 + model.kernel.noise))

    def _best(self, ends: Mapping[int, Prediction]) -> float:
        """The predicted end of the best complete trial, or what any complete trial is worth."""
        complete = [ends[number].mean for number, trial in self.trials.items() if trial.state == TrialState.COMPLETE]
        return max(complete) if complete else float(np.quantile([end.mean for end in ends.values()], BEFORE))

    def _next(self, number: int) -> int:
        """The epoch of the next decision about a trial."""
        done = len(self.trials[number].values)
        return next((epoch for epoch in DECISIONS if epoch > done), EPOCHS)

    def _stretch(self, number: int, costs: Costs) -> float:
        return costs.per_epoch(number) * (self._next(number) - len(self.trials[number].values))

    def _to_end(self, number: int, costs: Costs) -> float:
        trial = self.trials[number]
        if trial.seconds:
            return costs.per_epoch(number) * (EPOCHS - len(trial.values))
        assert self._new_costs is not None
        return float(self._new_costs.predict(trial.cube[None])[0]) * (EPOCHS - 1 + costs.first_epoch)

    def _costs(self) -> Costs:
        return Costs({number: trial.seconds for number, trial in self.trials.items() if trial.seconds})

    def _model(self) -> EndModel:
        seen = [Seen(number, one.params, one.state, one.values) for number, one in self.trials.items()]
        cube = np.array([trial.cube for trial in self.trials.values()])
        view = View(self._space, seen, cube, self._space.features(cube), frozenset(self._space.keys(cube)))
        curves = [curve(trial, EPOCHS, 1.0) for trial in seen]
        kernel, size = self._kernel or (None, 0)
        values = sum(map(len, curves))
        model = EndModel.of(view, curves, horizon=EPOCHS, kernel=kernel if values < GROWTH * size else None)
        assert model is not None, "there are enough trials"
        if model.kernel is not kernel:
            self._kernel = model.kernel, values
        return model

    def _propose(self, model: EndModel, believed: Posterior, costs: Costs) -> Array:
        """The point with the greatest expected improvement for its cost, if it can be complete in time."""
        cube = np.array([trial.cube for trial in self.trials.values()])
        improvement = Acquisition(
            posterior=believed,
            best=float(model.final.max()),
            pending=model.features[model.running],
            tried=frozenset(self._space.keys(cube)),
            space=self._space,
            sources=0,
            horizon=EPOCHS,
        )
        epochs = EPOCHS - 1 + costs.first_epoch

        def value(points: Array) -> Array:
            assert self._new_costs is not None
            seconds = np.log(self._new_costs.predict(points) * epochs)
            in_time = log_ndtr((math.log(max(self._left, 1e-9)) - seconds) / SPREAD)
            return np.asarray(improvement(points) - COST_POWER * seconds + in_time)

        epochs_so_far = sum(len(trial.values) for trial in self.trials.values())
        rng = np.random.default_rng((len(self.trials), epochs_so_far))
        return maximise(value, self._space, cube[np.argsort(-model.final, kind="stable")[:LEADERS]], rng)
