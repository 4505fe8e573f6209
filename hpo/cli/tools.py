"""The commands around studies."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpo.api.figures import plots
from hpo.cli import completion
from hpo.cli.options import HomeOption, JsonOption, OverridesArgument, SpecArgument
from hpo.cli.programs import documents

if TYPE_CHECKING:
    from hpo.spec.study import Spec
    from hpo.spec.training import Training


def ui(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1. 0 takes a free port.")] = 5000,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Name of a study, whose trials the printed address shows; by default the study that ran last.",
            autocompletion=completion.studies,
        ),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Show the studies of a home folder in MLflow.

    Serves the MLflow UI on 127.0.0.1, for this machine only, until Ctrl-C.
    """
    from hpo.home import Home
    from hpo.tracking.ui.server import serve

    raise typer.Exit(serve(Home.at(home), name, port))


def validate(
    spec: SpecArgument,
    overrides: OverridesArgument = None,
    notify: Annotated[bool, typer.Option("--notify", help="Also send a test message to the receivers.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a specification, a recipe or an exported configuration, and print every error in it. A folder of images is
    read to its end, and kept decoded in the home folder for hpo run."""
    from hpo.errors import UsageError
    from hpo.home import Home
    from hpo.search.forecast import advice
    from hpo.validation.loader import is_training, load_spec, load_training
    from hpo.validation.machine_checks import check_images, weights_warnings

    if is_training(spec):
        if notify:
            raise UsageError(f"--notify: {spec} is a single training, which notifies nobody; leave --notify out")
        _show_training(spec, load_training(spec, overrides or []), as_json=as_json)
        return
    loaded = load_spec(spec, overrides or [])
    check_images(loaded, Home.at(home))
    warnings = [*advice(loaded), *weights_warnings(loaded)]
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    parameters, trials = len(loaded.space), loaded.budget.trials
    if not as_json:
        print(f"{spec}: valid. Study {loaded.study}: {parameters} searched parameters, {trials} trials.")
    if notify:
        _send_test(loaded)
    if as_json:
        content = {"specification": spec, "valid": True, "what": "study", "study": loaded.study}
        content |= {"parameters": parameters}
        documents.show("validation", {**content, "trials": trials, "warnings": warnings, "notified": notify})
    elif notify:
        print("The test message was taken.")


def _show_training(source: str, training: Training, *, as_json: bool) -> None:
    """What a valid recipe or exported configuration is."""
    import search_spaces

    recipe, origin, epochs = source in search_spaces.recipes(), training.provenance, training.train.epochs
    what = "Recipe" if recipe else "Exported configuration" if origin else "Single training"
    if as_json:
        content: dict[str, Any] = {"specification": source, "valid": True, "what": what.lower()}
        content |= {"study": origin.study if origin else None, "parameters": 0, "trials": 1}
        documents.show("validation", {**content, "warnings": [], "notified": False})
        return
    described = f" ({training.description})" if training.description else ""
    task = f"{training.model.name} on {training.data.name}, {epochs} epochs"
    print(f"{source}: valid. {what}{described}: {task}. It has no space to search; it is for `hpo retrain`.")


def _send_test(spec: Spec) -> None:
    from hpo.driver.notify.notifier import Notifier
    from hpo.errors import InfrastructureError, UsageError
    from hpo.ledger.records import StudyRecord

    if not (spec.notify.command or spec.notify.url):
        raise UsageError("--notify: the specification names no receiver; set notify.url or notify.command")
    study = StudyRecord(spec.study, spec, {})
    notifier = Notifier(spec.notify, lambda: study)
    notifier.tell("test", study)
    if problem := notifier.close():
        raise InfrastructureError(problem.removeprefix("warning: "))


def schema(
    command: Annotated[
        str | None,
        typer.Argument(
            metavar="COMMAND",
            help="Name of a command, for example status: print the JSON Schema of its output with --json instead.",
            autocompletion=completion.documented,
        ),
    ] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print a reference in Markdown, for people.")] = False,
) -> None:
    """Print the JSON Schema of specifications, for editors; or of what a command prints with --json, for programs."""
    from hpo.cli.programs.described.commands import COMMANDS, output_schema
    from hpo.errors import UsageError
    from hpo.text import show
    from hpo.validation.schema import json_schema, markdown

    if command is not None:
        if as_markdown:
            raise UsageError("--markdown is for specifications; leave it out, or leave the name of a command out")
        if command not in COMMANDS:
            raise UsageError(f"no command {show(command)} prints JSON; commands: {', '.join(COMMANDS)}")
        print(json.dumps(output_schema(command), indent=2))
    elif as_markdown:
        print(markdown(), end="")
    else:
        print(json.dumps(json_schema(), indent=2))


def doctor(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Name of a study. Compare its records in MLflow with the ledger and repair differences.",
            autocompletion=completion.studies,
        ),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check this machine, and print a remedy for each problem."""
    from hpo.cli.doctor import examine
    from hpo.home import Home

    raise typer.Exit(examine(Home.at(home), name, plots, as_json=as_json))
