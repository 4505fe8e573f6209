"""`best.yaml` in a study's folder: the best configuration so far."""

from __future__ import annotations

from hpo.errors import InfrastructureError, UsageError
from hpo.files import write_atomically
from hpo.home import Home
from hpo.ledger.records import StudyRecord
from hpo.results.best import incumbent, training
from hpo.spec.training import Training


class Incumbent:
    """Keeps the file of one study current. Writes it only when the best configuration changes."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._written: Training | None = None

    def update(self, study: StudyRecord, predicted: str | None = None) -> None:
        """Write the current best: the choice of a confirmation, else the best complete trial, else the incumbent.

        Args:
            predicted: what is expected of an incumbent that is not complete; None if that is not known.

        Raises:
            InfrastructureError: the file cannot be written.
        """
        if incumbent(study) is None:
            return
        best = training(study, partial=True, predicted=predicted)
        if best == self._written:
            return
        try:
            write_atomically(self._home.incumbent(study.name), best.to_yaml())
        except UsageError as error:
            raise InfrastructureError(str(error)) from error
        self._written = best
