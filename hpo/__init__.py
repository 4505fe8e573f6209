"""Crash-proof hyperparameter search: run studies and read them from Python, as `hpo --help` shows for the shell.

    import hpo

    study = hpo.run("quickstart", budget={"trials": 8})
    study.trials  # a data frame of pandas

Importing this package costs nothing: Ray, Optuna, MLflow, pandas and pydantic load with what needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hpo.errors import HpoError, InfrastructureError, Interrupted, NoTrialSucceeded, UsageError

if TYPE_CHECKING:
    from hpo.api.run import confirm, resume, run
    from hpo.api.study import Best, Study, load_study, studies
    from hpo.validation.problems import SpecificationError

__all__ = [
    "Best",
    "HpoError",
    "InfrastructureError",
    "Interrupted",
    "NoTrialSucceeded",
    "SpecificationError",
    "Study",
    "UsageError",
    "confirm",
    "load_study",
    "resume",
    "run",
    "studies",
]

_LATER = {
    **dict.fromkeys(("confirm", "resume", "run"), "hpo.api.run"),
    **dict.fromkeys(("Best", "Study", "load_study", "studies"), "hpo.api.study"),
    "SpecificationError": "hpo.validation.problems",
}
"""The module of each name that loads when it is asked for."""


def __getattr__(name: str) -> Any:
    """A name of the interface, from its module."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
