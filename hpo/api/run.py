"""Studies that Python programs run: `run`, `resume` and `confirm`. A process of its own drives each of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from hpo.api.driver import drive
from hpo.api.messages import Confirm, Request, Resume, Run
from hpo.api.overrides import as_overrides, as_yaml
from hpo.api.progress import suitable
from hpo.api.study import Study, home_at, load_study
from hpo.spec.study import Spec


def run(
    spec: str | os.PathLike[str] | Mapping[str, Any] | Spec,
    *,
    home: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    verbose: bool = False,
    **overrides: Any,
) -> Study:
    """Run a study to its end.

    A process of its own drives it, so this process keeps its signal handlers and may be a notebook's kernel or any of
    its threads. An interrupt (Ctrl-C, the stop button of a notebook) stops the study in order, as does the end of this
    process; `resume` continues it.

    Args:
        spec: path of a YAML file, name of a shipped study, the content of such a file as a dict, or the `spec` of a
            loaded study.
        home: home folder, which is created; None for the environment variable `HPO_HOME`, or else `runs`.
        resume: continue the study if it is recorded already, so that a cell of a notebook may run again. Only what a
            resume may change may differ then. A study whose budget is used up is returned as it is.
        progress: show how the study goes: one output that is kept up to date in a notebook, else a line per event on
            the standard error stream.
        verbose: also let Ray and other libraries print.
        overrides: settings to change. A key is a dotted path, which needs `**{"budget.trials": 20}`, or a section with
            a dict of the keys to change in it: `budget={"trials": 20}` means the same. A dict of a section leaves its
            other keys as they are; every other value replaces the earlier one. `space={"train.lr": None}` removes a
            parameter.

    Raises:
        SpecificationError: the specification or an override breaks rules; `problems` has all of them.
        UsageError: the study exists, another driver runs it, its data is missing, or the machine has too little.
        NoTrialSucceeded: every trial failed.
        InfrastructureError: Ray, a database, a disk or a tracking server failed. Resumable.
        Interrupted: a signal to the driver itself ended the study in order. Resumable.
        KeyboardInterrupt: this process was interrupted. Resumable; the text says how.
    """
    if isinstance(spec, str | os.PathLike):
        source, text = os.fspath(spec), None
    elif isinstance(spec, Spec):
        source, text = f"the specification of {spec.study}", spec.to_yaml()
    else:
        source, text = "the specification", as_yaml(spec, "the specification")
    return _drive(Run(home_at(home), verbose, source, text, as_overrides(overrides), resume), progress)


def resume(
    name: str,
    *,
    home: str | os.PathLike[str] | None = None,
    progress: bool = True,
    verbose: bool = False,
    **overrides: Any,
) -> Study:
    """Continue an interrupted study, or extend a finished one with a larger budget.

    Args:
        name: name of the study.
        home, progress, verbose, overrides: as of `run`. Only what leaves the trials comparable can be changed.

    Raises:
        As `run`; UsageError also if there is no such study.
    """
    return _drive(Resume(home_at(home), verbose, name, as_overrides(overrides)), progress)


def confirm(
    name: str,
    *,
    top: int = 5,
    seeds: int = 3,
    home: str | os.PathLike[str] | None = None,
    progress: bool = True,
    verbose: bool = False,
) -> Study:
    """Train the best configurations again with new seeds to rule out luck, and choose one: see `Study.confirmed`.

    Args:
        name: name of the study.
        top: number of configurations, best first, at least 1. The baseline is added.
        seeds: trainings per configuration, at least 2; for intervals 3.
        home, progress, verbose: as of `run`.

    Raises:
        As `run`; UsageError also if there is no such study or no complete trial.
    """
    return _drive(Confirm(home_at(home), verbose, name, top, seeds), progress)


def _drive(request: Request, progress: bool) -> Study:
    return load_study(drive(request, suitable(progress)), home=request.home.path)
