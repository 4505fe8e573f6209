"""The commands that train."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from hpo.cli.options import HomeOption, JsonOption, OverridesArgument, SpecArgument, StudyArgument, VerboseOption


def run(
    spec: SpecArgument,
    overrides: OverridesArgument = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would do and cost; write nothing.")] = False,
    home: HomeOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Run a new study."""
    from hpo.driver import run as launch
    from hpo.home import Home
    from hpo.validation.loader import load_spec

    loaded = load_spec(spec, overrides or [])
    place = Home.at(home)
    if dry_run:
        from rich.console import Console

        from hpo.cli.display.dry_run import rehearse

        console = Console(highlight=False, markup=False, emoji=False)
        for part in rehearse(loaded, place):
            console.print(part, soft_wrap=isinstance(part, str))
        return
    _finish(
        home,
        verbose,
        lambda view: launch.run(loaded, place, view=view, figures=plots, verbose=verbose),
    )


def resume(
    name: StudyArgument,
    overrides: OverridesArgument = None,
    home: HomeOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Go on with an interrupted study, or extend a finished one (budget.trials=N)."""
    from hpo.driver import run as launch
    from hpo.home import Home
    from hpo.validation.revision import revise

    place = Home.at(home)
    _finish(
        home,
        verbose,
        lambda view: launch.resume(
            name,
            place,
            view=view,
            changes=lambda recorded: revise(recorded, overrides or []),
            figures=plots,
            verbose=verbose,
        ),
    )


def confirm(
    name: StudyArgument,
    top: Annotated[int, typer.Option(help="How many of the best configurations; the default recipe comes on top.")] = 5,
    seeds: Annotated[int, typer.Option(help="How often to train each, with seeds that the search has not used.")] = 3,
    home: HomeOption = None,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the best configurations again with fresh seeds, and choose one."""
    from rich.console import Console

    from hpo.driver.confirm import confirm as train_again
    from hpo.home import Home
    from hpo.results.confirmation import confirmation
    from hpo.results.confirmation_text import confirmation_json, verdict

    place = Home.at(home)
    study = _drive(
        home,
        verbose,
        lambda view: train_again(
            name,
            place,
            top=top,
            seeds=seeds,
            view=view,
            say=lambda text: print(text, file=sys.stderr),
            verbose=verbose,
        ),
    )
    found = confirmation(study)
    if as_json:
        print(json.dumps(confirmation_json(found)))
        return
    Console(highlight=False, markup=False, emoji=False).print(verdict(found))
    print(f"Written: {place.incumbent(name)}\nNext: hpo retrain {name}{_home_option(home)}")


def plots(study: Any) -> Any:
    """What MLflow shows of a study; imported when it is first drawn."""
    from reports.page import render

    return render.plots(study)


def _finish(home: Path | None, verbose: bool, work: Callable[[Any], Any]) -> None:
    from hpo.cli.display.plain import closing

    print(closing(_drive(home, verbose, work), _home_option(home)))


def _home_option(home: Path | None) -> str:
    """As it was typed, for the commands that are proposed next."""
    from hpo.home import Home

    return "" if home is None or Home.at(home).usual else f" --home {shlex.quote(str(home))}"


def _drive(home: Path | None, verbose: bool, work: Callable[[Any], Any]) -> Any:
    """What `work` returns, given what makes a view."""
    from hpo.cli.display.live import choose
    from hpo.home import Home

    with choose(Home.at(home), verbose=verbose) as view:
        return work(view)
