"""The commands that run trials: run, resume, confirm."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpo.api.figures import plots
from hpo.cli.options import HomeOption, JsonOption, OverridesArgument, SpecArgument, StudyArgument, VerboseOption
from hpo.cli.programs import documents
from hpo.errors import UsageError

if TYPE_CHECKING:
    from hpo.home import Home
    from hpo.ledger.records import StudyRecord
    from hpo.spec.study import Spec


def run(
    spec: SpecArgument,
    overrides: OverridesArgument = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and its cost in time, memory and disk. Write nothing.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="With --dry-run: also the whole specification.")] = False,
    home: HomeOption = None,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run a new study.

    Trials run until the budget is used up. Ctrl-C stops the study in order; hpo resume continues it.
    """
    if dry_run:
        _plan(spec, overrides or [], home, full, as_json)
        return
    if full:
        raise UsageError("--full belongs to --dry-run; add --dry-run, or leave --full out")
    _say("reading the specification")  # importing what reads it is most of that

    from hpo.home import Home
    from hpo.tracking.process.child import Child
    from hpo.validation.loader import load_spec

    place = Home.at(home)
    with Child() as mlflow:
        loaded = load_spec(spec, overrides or [], lambda valid: mlflow.load(valid, place))
        beside = Path(spec).parent if Path(spec).is_file() and not loaded.shipped else None

        from hpo.cli.display.live import console_view
        from hpo.driver.run import run as run_study

        with console_view(place, verbose=verbose) as view:
            study = run_study(
                loaded, place, view=view, figures=plots, say=_say, verbose=verbose, beside=beside, mlflow=mlflow
            )
    _close(study, place, as_json)


def _plan(spec: str, overrides: list[str], home: Path | None, full: bool, as_json: bool) -> None:
    """`run --dry-run`."""
    from hpo.home import Home
    from hpo.validation.loader import load_spec

    loaded, place = load_spec(spec, overrides), Home.at(home)
    if not as_json:
        _rehearse(loaded, place, shlex.join(["run", spec, *overrides]), full)
        return
    if full:
        raise UsageError("--full and --json exclude each other; leave one of them out")
    from hpo.cli.display.dry_run.study import plan_json

    documents.show("plan", plan_json(loaded, place))


def _close(study: StudyRecord, home: Home, as_json: bool) -> None:
    """Say what came of a study; in JSON as `hpo status` does."""
    from hpo.cli.display.plain import closing
    from hpo.cli.display.status import show_study

    if as_json:
        show_study(home, study.name, as_json)
    else:
        print(closing(study, home.option))


def _rehearse(spec: Spec, home: Home, command: str, full: bool) -> None:
    from rich.console import Console

    from hpo.cli.display.dry_run.study import rehearse

    console = Console(highlight=False, markup=False, emoji=False)
    with console.status("measuring a training step", refresh_per_second=2):  # only on a terminal
        for part in rehearse(spec, home, command, full=full):
            console.print(part, soft_wrap=isinstance(part, str))


def resume(
    name: StudyArgument,
    overrides: OverridesArgument = None,
    home: HomeOption = None,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Continue an interrupted study, or extend a finished one.

    Unfinished trials continue from their last checkpoints. A larger budget extends a finished study.
    """
    from hpo.cli.display.live import console_view
    from hpo.driver.run import resume as resume_study
    from hpo.home import Home
    from hpo.validation.revision import revise

    def changes(recorded: Spec) -> Spec:
        return revise(recorded, overrides or [])

    place = Home.at(home)
    with console_view(place, verbose=verbose) as view:
        study = resume_study(name, place, view=view, changes=changes, figures=plots, say=_say, verbose=verbose)
    _close(study, place, as_json)


def confirm(
    name: StudyArgument,
    top: Annotated[
        int, typer.Option(help="Number of configurations to retrain, best first. The baseline is added.")
    ] = 5,
    seeds: Annotated[
        int, typer.Option(help="Trainings per configuration, each with a new seed. At least 2, for intervals 3.")
    ] = 3,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be trained and what it costs. Write nothing.")
    ] = False,
    home: HomeOption = None,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Retrain the top trials with new seeds to rule out luck, and choose one.

    Trainings that are already done are not repeated, so a second call continues or extends the confirmation.
    """
    from hpo.cli.display.confirmation import show_confirmation
    from hpo.cli.display.live import console_view
    from hpo.cli.display.plain import what_next
    from hpo.driver.confirm import confirm as confirm_study
    from hpo.home import Home
    from hpo.results.confirmation import confirmation
    from hpo.results.confirmation_text import confirmation_json
    from hpo.results.winner import winner_json

    place = Home.at(home)
    if dry_run:
        _rehearse_confirmation(place, name, top, seeds, as_json)
        return
    with console_view(place, verbose=verbose) as view:
        study = confirm_study(name, place, top=top, seeds=seeds, view=view, say=_say, verbose=verbose)
    confirmed = confirmation(study)
    if as_json:
        files = {"study": name, "best_file": str(place.incumbent(name).resolve())}
        documents.show("confirmation", files | winner_json(study) | (confirmation_json(confirmed) or {}))
        return
    show_confirmation(confirmed)
    print(f"Written: {place.incumbent(name)}")
    print("\n".join(what_next(study, place.option)))


def _rehearse_confirmation(home: Home, name: str, top: int, seeds: int, as_json: bool) -> None:
    from rich.console import Console

    from hpo.cli.display.dry_run.confirm import forecast, rehearse, to_json

    found = forecast(home, name, top, seeds)
    if as_json:
        documents.show("confirmation_plan", to_json(found))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    width = console.width if console.is_terminal else None
    for line in rehearse(found, home, f"confirm {name} --top {top} --seeds {seeds}", width):
        console.print(line, soft_wrap=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
