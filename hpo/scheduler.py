"""Ray Tune's view of the scheduling: a `TrialScheduler` that passes every report to the conductor."""

from __future__ import annotations

from typing import Any

from ray import tune

from hpo.conductor import Conductor
from trainers.api import EpochMetrics


class StudyScheduler(tune.schedulers.FIFOScheduler):
    """The first to see a report, hence where reports are recorded; the conductor's ASHA decides.

    What stands for Ray's `time_attr`, `metric` and `mode` is the study's own: `epoch`, or the trainer's `compute`
    (`asha.resource`), and the largest `val_accuracy`.
    """

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._conductor = conductor

    @property
    def supports_buffered_results(self) -> bool:
        """Every epoch is decided on before the next one begins."""
        return False

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Nothing to do: the conductor handed it out."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Record the report; stop what failed, finished or fell below a rung's cutoff."""
        number = result["number"]
        for text in result.get("warnings", ()):
            self._conductor.on_warning(number, text)
        if result.get("broken"):
            self._conductor.on_broken(result["broken"])
            return str(self.STOP)
        if result.get("failure"):
            self._conductor.on_failure(number, result["failure"])
            return str(self.STOP)
        self._conductor.on_placed(number, result["host"], result["device"], result["pid"])
        prefix = "metrics/"
        metrics = EpochMetrics(**{key[len(prefix) :]: value for key, value in result.items() if key.startswith(prefix)})
        return str(self.CONTINUE if self._conductor.on_epoch(number, metrics) else self.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """The worker or its node died (a trainer's own exceptions arrive as reports). Ray gives the trial up; the
        conductor counts the losses over all drivers of the study and hands it out again as a new one of Ray's."""
        error = trial.get_error()
        self._conductor.on_lost(trial.config["number"], _first_line(error))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Nothing to do: the report that ended it was recorded already."""

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Nothing to do: a trial that never ran stays in the ledger for `resume`."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StopAll(tune.Stopper):
    """Ends Ray's loop as soon as the conductor stops: what is left of an epoch is not worth waiting for."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        self._conductor.tick()
        return self._conductor.stopping is not None

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _first_line(error: object) -> str:
    text = str(error or "its worker died").strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if isinstance(error, Exception) else text
