"""The commands that steer a study from elsewhere: stop, pause, add, set, rm, rename."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpo.cli import completion
from hpo.cli.options import HomeOption, JsonOption, StudyArgument
from hpo.cli.programs import documents

if TYPE_CHECKING:
    from pathlib import Path

    from hpo.driver.steering.asking import Asked
    from hpo.ledger.steering.requests import Kind


def stop(
    name: StudyArgument,
    now: Annotated[
        bool, typer.Option("--now", help="End the driver at once, like a second Ctrl-C. Trials lose more epochs.")
    ] = False,
    trial: Annotated[
        int | None, typer.Option("--trial", min=0, help="Stop this trial only, for good. The study continues.")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a running study from any terminal or machine, like Ctrl-C in its own.

    The study can be resumed: its trials continue from their last checkpoints. A confirmation that runs is stopped, too.
    """
    from hpo.errors import UsageError

    if now and trial is not None:
        raise UsageError("--now and --trial exclude each other: a single trial is always stopped at once")
    if trial is not None:
        _ask(name, "stop_trial", home, as_json, trial=trial)
    else:
        _ask(name, "stop_now" if now else "stop", home, as_json)


def pause(
    name: StudyArgument,
    off: Annotated[bool, typer.Option("--off", help="End the pause: trials continue and begin again.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pause a running study, so that its GPUs are free; --off continues it.

    Running trials continue to their next checkpoint and are interrupted there. The driver stays, and its time does not
    count.
    """
    _ask(name, "continue" if off else "pause", home, as_json)


def add(
    name: StudyArgument,
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="PARAMETER=VALUE", help="Values of searched parameters, for example train.lr=0.02."),
    ] = None,
    like: Annotated[
        int | None,
        typer.Option(
            min=0, help="Number of the trial that has the values that are not given. Default: the baseline's."
        ),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a configuration to a study: it is the next one that is tried.

    A study that does not run tries it when it is resumed.
    """
    from hpo.driver.steering.configurations import configuration
    from hpo.home import Home

    _ask(name, "add", home, as_json, values=configuration(Home.at(home), name, values or [], like))


def set_(
    name: StudyArgument,
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE",
            help="Settings to change, for example budget.trials=80.",
            autocompletion=completion.overrides,
        ),
    ],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change the budget and other settings of a running study at once.

    A study that does not run takes them with hpo resume NAME KEY=VALUE.
    """
    _ask(name, "set", home, as_json, overrides=tuple(settings))


def rm(
    name: StudyArgument,
    keep_mlflow: Annotated[bool, typer.Option("--keep-mlflow", help="Leave the runs in MLflow.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove without a question.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a study: its trials, its files and its runs in MLflow.

    A study that a driver runs is refused. A removal that was cut off is completed by a second one.
    """
    from hpo.driver.steering.removal import removal
    from hpo.errors import UsageError
    from hpo.home import Home

    if as_json and not yes:
        raise UsageError("a removal asks first, which --json cannot; add --yes")
    with removal(name, Home.at(home), keep_mlflow=keep_mlflow, say=_say) as remains:
        content = remains.to_json()
        if not as_json:
            print("\n".join(content["removed"]))
        if not yes and not typer.confirm(f"Remove all of this of {name}?", err=True):
            print("nothing was removed")
            return
        remains.remove()
    if as_json:
        documents.show("removal", content)
    else:
        print(f"{name} is removed")


def rename(
    name: Annotated[str, typer.Argument(metavar="OLD", help="Name of the study.", autocompletion=completion.studies)],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The name that it gets.")],
    keep_mlflow: Annotated[
        bool,
        typer.Option(
            "--keep-mlflow", help="Ask MLflow nothing. Its runs get the new name with the next resume or hpo doctor."
        ),
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rename a study: in the ledger, its folder, its files and its runs in MLflow.

    A study that a driver runs is refused. A renaming that was cut off is completed by a second one. The log of
    evaluations on the test set stays with the study.
    """
    from hpo.driver.steering.renaming import rename as renamed
    from hpo.errors import InfrastructureError
    from hpo.home import Home

    place = Home.at(home)
    done = renamed(name, new, place, keep_mlflow=keep_mlflow, say=_say)
    if done.trouble:
        for line in done.changes:
            _say(line)
        raise InfrastructureError(done.trouble)
    if as_json:
        documents.show("renaming", {"study": new, "former": name, "changed": done.changes})
        return
    print("\n".join([*done.changes, f"{name} is renamed to {new}" if done.changes else "nothing was left to do"]))
    if (place.study(new) / "report").is_dir():
        print(f"The report still shows the old name. Write it again with: {place.command(f'report {new}')}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _ask(name: str, kind: Kind, home: Path | None, as_json: bool, **content: Any) -> None:
    from hpo.driver.steering.asking import ask
    from hpo.home import Home, confirmed_study

    place = Home.at(home)
    asked = ask(place, name, kind, **content)
    if as_json:
        documents.show("request", asked.to_json())
        return
    if (confirmed := confirmed_study(asked.study)) is None:
        again = place.command(f"resume {asked.study}")
    else:
        again = f"{place.command(f'confirm {confirmed}')}, and the same --top and --seeds"
    print(_said(asked, again, place.command(f"pause {name} --off")))


def _said(asked: Asked, resume: str, unpause: str) -> str:
    """What a person reads after a request: the answer, and what continues a stopped or a paused study."""
    if asked.answer is None:
        return f"{asked.study}: kept; no driver runs the study, and the next one does it: {resume}"
    lines = [f"{asked.study}: {asked.answer.text}"]
    if asked.request.kind in ("stop", "stop_now"):
        lines.append(f"Continue with: {resume}")
    if asked.request.kind == "pause":
        lines.append(f"Continue with: {unpause}")
    return "\n".join(lines)
