"""The configuration that a person adds to a study, from what the command line says."""

from __future__ import annotations

from collections.abc import Sequence

from hpo.errors import UsageError
from hpo.home import Home
from hpo.ledger.reader import read_study
from hpo.spec.parameters import Choice
from hpo.validation.revision import assignments


def configuration(home: Home, name: str, given: Sequence[str], like: int | None = None) -> dict[str, Choice]:
    """A complete configuration of the study's space.

    Args:
        given: `dotted.key=value`.
        like: number of the trial that has the other values; None: the baseline has them.

    Raises:
        UsageError: there is no such study or trial, or the configuration lies outside the space.
    """
    study = read_study(home, name)
    others = study.spec.baseline_values()
    if like is not None:
        trial = next((trial for trial in study.trials if trial.number == like), None)
        if trial is None:
            raise UsageError(f"--like {like}: {name} has no trial {like}; trials: 0 to {len(study.trials) - 1}")
        others = dict(trial.assigned)
    if not given and like is None:
        raise UsageError(f"nothing is given to try; write PARAMETER=VALUE; parameters: {', '.join(study.spec.space)}")
    return assignments(study.spec, given, others)
