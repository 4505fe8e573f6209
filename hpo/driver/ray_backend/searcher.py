"""Ray Tune's view of the search: a `Searcher` that hands out what the conductor assigns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from ray import tune

from hpo.driver.conductor import Assignment, Conductor


class StudySearcher(tune.search.Searcher):
    """Asks the conductor for trials.

    Values and outcomes reach the ledger through the scheduler, which sees every report. Ray does not show searchers
    the last report of a stopped trial.
    """

    def __init__(
        self,
        conductor: Conductor,
        checkpoints: str,
        worker: dict[str, Any],
        room: Callable[[], Mapping[str, int]] = dict,
        limit: Callable[[int], int] | None = None,
    ) -> None:
        """
        Args:
            checkpoints: folder or URI below which every trial has its folder.
            worker: what the jobs of all trials have in common.
            room: how many trials fit on each node that is alive.
            limit: how many trials may run at once where so many fit; None for all that fit.
        """
        super().__init__()
        self._conductor = conductor
        self._checkpoints = checkpoints
        self._worker = worker
        self._room = room
        self._limit = limit

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The configuration of Ray's trial `trial_id`, None while there is nothing to do, or FINISHED."""
        if self._is_full():
            return None
        assignment = self._conductor.next_trial()
        if assignment is None:
            return str(tune.search.Searcher.FINISHED) if self._conductor.exhausted else None
        if self._conductor.left_nodes:  # one may have been left just now, and the others may have gone meanwhile:
            self._conductor.check_nodes(self._room())  # a trial that avoids all nodes would wait for ever
        return self._worker | _job(assignment, self._checkpoints) | {"avoid": sorted(self._conductor.left_nodes)}

    def _is_full(self) -> bool:
        """Whether the nodes that get trials have no room for one more; else it would wait with its clock running."""
        left = self._conductor.left_nodes
        if not left and self._limit is None:
            return False
        room = self._room()
        if left:
            self._conductor.check_nodes(room)
        fit = sum(count for node, count in room.items() if node not in left)
        return self._conductor.running >= max(1, fit if self._limit is None else self._limit(fit))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing to do: the scheduler saw how the trial ended."""

    # Ray's pickled state is never read back: a study resumes from its ledger.

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing to save."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _job(assignment: Assignment, checkpoints: str) -> dict[str, Any]:
    return {
        "number": assignment.number,
        "seed": assignment.seed,
        "training": dataclasses.asdict(assignment.config),
        "checkpoints": f"{checkpoints}/{assignment.number:05d}",
        "alone": assignment.alone,
    } | ({"device_share": 1.0} if assignment.alone else {})
