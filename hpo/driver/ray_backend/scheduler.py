"""Ray Tune's view of the scheduling: a `TrialScheduler` that passes every report to the conductor."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune

from hpo.driver.conductor import Conductor
from hpo.driver.decisions.nodes import Place
from hpo.driver.ray_backend.worker_loss import MemoryWatch, NodeWatch, explain
from hpo.ledger.outcome import Cause
from trainers.api import EpochMetrics

OWN = "own/"
"""Ray flattens what a worker reports: this is what stands before a trainer's own metrics."""
LONG_S = 120.0
"""A trial that waits for longer waits for room, not for its worker to start."""


class StudyScheduler(tune.schedulers.FIFOScheduler):
    """Passes reports to the conductor, which records them and decides; in Ray Tune the scheduler sees them first.

    Ray's `time_attr`, `metric` and `mode` are not used. The study has its own: `epoch` or the trainer's `compute`
    (`asha.resource`), and the largest `val_accuracy`.
    """

    def __init__(
        self,
        conductor: Conductor,
        room: Callable[[], Mapping[str, int]] = dict,
        nodes: Callable[[], Sequence[Mapping[str, Any]]] = tuple,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            room: how many trials fit on each node that is alive.
            nodes: as `ray.nodes`.
            now: seconds since any moment.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self._conductor = conductor
        self._room = room
        self._memory = MemoryWatch()
        self._watch = NodeWatch(nodes)
        self._now = now
        self._waiting: dict[int, float] = {}
        """Since when each trial waits, by number."""
        self._places: dict[int, tuple[str, str]] = {}
        """Host and node of each trial, by number."""

    @property
    def supports_buffered_results(self) -> bool:
        """No: the conductor decides about every epoch before the next one begins."""
        return False

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Nothing to do: the trial came from the conductor."""

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The waiting trial that a free worker takes. Before that, trials that avoid every node that is there are taken
        back to be handed out anew."""
        self._end_stopped(tune_controller)
        # Ray's own choice would go through all trials of the study, at every turn of its loop.
        waiting = [trial for trial in tune_controller.get_live_trials() if trial.status == "PENDING"]
        stranded = []
        if (avoiding := [trial for trial in waiting if trial.config["avoid"]]) and (there := set(self._room())):
            stranded = [trial for trial in avoiding if there <= set(trial.config["avoid"])]
        for trial in stranded:
            self._conductor.on_stranded(trial.config["number"])
            tune_controller.stop_trial(trial)
        return self._next({trial.config["number"]: trial for trial in waiting if trial not in stranded})

    def _end_stopped(self, tune_controller: Any) -> None:
        """End the workers of trials that a person has stopped, in the middle of an epoch: it may never end."""
        if not (stopped := self._conductor.steering.take_stopped()):
            return
        for trial in [trial for trial in tune_controller.get_live_trials() if trial.config["number"] in stopped]:
            if trial.status == "RUNNING" and (worker := trial.temporary_state.ray_actor) is not None:
                ray.kill(worker)  # it comes back as an error of a trial that has ended
            else:
                tune_controller.stop_trial(trial)

    def _next(self, trials: Mapping[int, Any]) -> Any:
        """Which of these trials a free worker takes; None if there is none.

        Ray gives up the worker that it was starting for a trial that gets another one. So a new trial is taken, for
        which none is starting yet, or else the youngest: the workers of the others are nearly there. Else short trials
        at the start of a study would leave all slots but one without a worker.
        """
        before, now = self._waiting, self._now()
        self._waiting = {number: before.get(number, now) for number in trials}
        long = [number for number in trials if now - self._waiting[number] > LONG_S]
        new = trials.keys() - before.keys()
        if not trials:
            return None
        return trials[min(long or new) if long or new else max(trials)]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Record the report; stop a trial that failed, finished or fell below a rung's cutoff."""
        number = result["number"]
        self._places[number] = (result["host"], result["node"])
        self._memory.look()
        for text in result.get("warnings", ()):
            self._conductor.on_warning(number, text)
        if result.get("broken"):
            self._conductor.on_broken(result["broken"])
            return str(self.STOP)
        place = (result["host"], result["device"], result["pid"], result["node"])
        self._conductor.on_placed(number, *place, result.get("phase"))
        if result.get("phase"):
            return str(self.CONTINUE)
        if result.get("lacking"):
            self._conductor.on_lacking(number, result["lacking"], self._place(result["host"], result["node"]))
            return str(self.STOP)
        if result.get("failure"):
            where = self._place(result["host"], result["node"])
            cause, memory = Cause(result["cause"]), bool(result.get("memory"))
            self._conductor.on_failure(number, result["failure"], cause, where, memory=memory)
            return str(self.STOP)
        prefix = "metrics/"
        values = {key[len(prefix) :]: value for key, value in result.items() if key.startswith(prefix)}
        own = {key[len(OWN) :]: values.pop(key) for key in [key for key in values if key.startswith(OWN)]}
        metrics = EpochMetrics(**values, own=own or None)
        return str(self.CONTINUE if self._conductor.on_epoch(number, metrics) else self.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """The worker or its node died (a trainer's own exceptions arrive as reports).

        Ray gives the trial up. The conductor counts the losses over all drivers of the study, and hands the trial out
        again as a new one of Ray's.
        """
        number = trial.config["number"]
        host, node = self._places.pop(number, (None, None))
        starved = self._memory.look() and host in (None, socket.gethostname())
        # Not `trial.get_error`: it reads a copy that Ray makes later.
        said = Path(trial.error_file).read_text() if trial.error_file else ""
        gone = self._watch.is_gone(node)
        # A dead node gets no trials anyway, and a trial is not to wait for the next one there.
        place = self._place(host, node) if host and node and not gone else None
        self._conductor.on_lost(number, explain(said, host=host, node_gone=gone, starved=starved), place)

    def _place(self, host: str, node: str) -> Place:
        return Place(host, node, frozenset(self._room()) - {node})

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Nothing to do: the report that ended the trial is recorded already."""

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Nothing to do: a trial that never ran stays in the ledger for `resume`."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StopAll(tune.Stopper):
    """Ends Ray's loop as soon as the conductor stops, without waiting for the end of an epoch; also once all trials of
    a study that is paused are interrupted, because Ray would keep their workers, and these their GPUs."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        self._conductor.tick()
        return self._conductor.stopping is not None or self._conductor.steering.rest()

    def __getstate__(self) -> dict[str, Any]:
        return {}
