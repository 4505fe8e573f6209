"""The command line: the list of commands, and how a command ends. Heavy imports wait inside the commands."""

from __future__ import annotations

import gc
import io
import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from hpo.cli.begin.init import init
from hpo.cli.begin.spaces import copy, spaces
from hpo.cli.programs import documents, refusals
from hpo.cli.programs.command import mcp
from hpo.cli.results import audit, export, ls, report, retrain, status
from hpo.cli.steering import add, pause, rename, rm, set_, stop
from hpo.cli.study import confirm, resume, run
from hpo.cli.tools import doctor, schema, ui, validate
from hpo.cli.trials import trials
from hpo.errors import HpoError, Interrupted, UsageError

app = typer.Typer(
    name="hpo",
    help="Search hyperparameters for EfficientNetV2. Run a study, confirm its best trials, and retrain the winner.",
    epilog="Start with:         hpo run quickstart\n"
    "Your own study:     hpo init\n"
    "Help and examples:  hpo COMMAND --help",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(ctx: typer.Context, wanted: bool) -> None:
    from hpo.cli.begin.version import as_json, details, version

    if wanted:
        verbose = bool(ctx.params.get("verbose"))
        if ctx.params.get("as_json"):
            documents.show("version", as_json(verbose))
        else:
            print(details() if verbose else version())
        raise typer.Exit


GROUPS: dict[str, dict[Callable[..., None], tuple[str, ...]]] = {
    "Run": {
        init: ("hpo init", "hpo init my.yaml --data cifar10 --device cpu --trials 20 --hours 3"),
        spaces: ("hpo spaces", "hpo spaces cifar10", "hpo spaces --json"),
        copy: ("hpo copy cifar10 my.yaml",),
        run: (
            "hpo run quickstart",
            "hpo run study.yaml budget.trials=50 train.epochs=16",
            "hpo run cifar10 --dry-run",
        ),
        resume: ("hpo resume cifar10", "hpo resume cifar10 budget.trials=200"),
        confirm: ("hpo confirm cifar10 --top 5 --seeds 3", "hpo confirm cifar10 --dry-run"),
        stop: ("hpo stop cifar10", "hpo stop cifar10 --now", "hpo stop cifar10 --trial 17"),
        pause: ("hpo pause cifar10", "hpo pause cifar10 --off"),
        add: ("hpo add cifar10 train.lr=0.02", "hpo add cifar10 train.lr=0.02 --like 17"),
        set_: ("hpo set cifar10 budget.trials=80",),
    },
    "Inspect": {
        status: ("hpo status", "hpo status cifar10 --watch"),
        ls: ("hpo ls --home runs",),
        trials: (
            "hpo trials cifar10 > trials.csv",
            "hpo trials cifar10 --epochs --json",
            "hpo trials cifar10 --parquet -o trials.parquet",
        ),
        report: ("hpo report cifar10 --open", "hpo report cifar10 cifar10_wide -o comparison"),
        ui: ("hpo ui", "hpo ui cifar10 --port 8000"),
        audit: ("hpo audit cifar10",),
    },
    "Use the result": {
        export: (
            "hpo export cifar10 -o best.yaml",
            "hpo export cifar10 --top 5 -o top",
            "hpo export cifar10 --format onnx -o model",
        ),
        retrain: (
            "hpo retrain best.yaml --seeds 3",
            "hpo retrain cifar10 --epochs 103",
            "hpo retrain cifar10 train.ema.decay=0 -o final",
        ),
    },
    "Tools": {
        validate: (
            "hpo validate study.yaml",
            "hpo validate cifar10 budget.trials=200",
            "hpo validate google_cifar10ft",
            "hpo validate study.yaml --notify",
        ),
        schema: ("hpo schema > schema.json",),
        doctor: ("hpo doctor", "hpo doctor cifar10"),
        rename: ("hpo rename cifar10 cifar10_wide",),
        rm: ("hpo rm cifar10", "hpo rm cifar10 --keep-mlflow --yes"),
        mcp: ("hpo mcp --home runs",),
    },
}
"""Every command with what to type, in the groups and in the order of `hpo --help`."""


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version)
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", "-v", help="With --version: also what a report of a fault needs.", is_eager=True),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --version: print JSON to standard output.", is_eager=True)
    ] = False,
) -> None:
    if verbose:
        raise UsageError("-v before a command belongs to --version; type it after the command")
    if as_json:
        raise UsageError("--json before a command belongs to --version; type it after the command")


def command_name(command: Callable[..., None]) -> str:
    """What a person types. A function whose name would hide a word of Python ends with an underscore: `set_`."""
    return command.__name__.rstrip("_")


for group, commands in GROUPS.items():
    for command, examples in commands.items():
        epilog = "\n  ".join(["Examples:", *examples])
        app.command(command_name(command), epilog=epilog, rich_help_panel=group)(command)


OBJECTS_BEFORE_GARBAGE = 50_000
"""New objects after which Python looks for garbage."""


def main() -> None:
    """Run a command, and turn its errors into messages and exit codes."""
    from hpo.driver.signals import handle_early
    from trainers.api import TrainerError

    # Imports and records are hundreds of thousands of objects that stay; with Python's own threshold of 700 new objects
    # a fifth of a command's time goes into looking for garbage among them.
    gc.set_threshold(OBJECTS_BEFORE_GARBAGE)
    handle_early()
    _replace_closed_streams()
    _show_every_character()
    _ignore_a_width_of_nothing()
    _show_own_warnings_as_sentences()
    try:
        _run()
    except BrokenPipeError:
        _drop_output()
        sys.exit(141)
    except Interrupted as error:
        code = _say(error)
        sys.stdout.flush()
        os._exit(code)  # if Ray was starting, its threads would keep the process alive
    except HpoError as error:
        sys.exit(_say(error))
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        refusals.refuse(error, str(error), 2)
        sys.exit(2)
    except OSError as error:
        if error.filename is not None:  # about a file of the command; errors of the output name no file
            raise
        _drop_output()
        print(f"error: the output cannot be written: {error.strerror}", file=sys.stderr)
        sys.exit(1)


def _run() -> None:
    """Run the command and flush its output, while an error of the output can still be reported."""
    try:
        app()
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # of which typer and rich make their own exit code
            raise end.__context__ from None
        refusals.refuse_usage(end)
        sys.stdout.flush()
        raise


def _replace_closed_streams() -> None:
    """Discard what goes to a stream that the caller has closed (`hpo ls >&-`). Otherwise the next file that is opened,
    for example the ledger, would take the stream's place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - open until the process ends


def _show_every_character() -> None:
    """Print `?` for a character that the terminal's encoding lacks, for example a dash in Latin-1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _ignore_a_width_of_nothing() -> None:
    """Some editors and CI systems set `COLUMNS=0` where they know no width; Rich then prints nothing at all."""
    for name in ("COLUMNS", "LINES"):
        if os.environ.get(name, "").isdigit() and int(os.environ[name]) == 0:
            del os.environ[name]


def _show_own_warnings_as_sentences() -> None:
    """Of this project's warnings people see the text alone; Python adds the place in the code and a line of it."""
    inherited = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if category.__module__.partition(".")[0] in {"hpo", "trainers", "reports"}:
            print(f"warning: {message}", file=sys.stderr)
        else:
            inherited(message, category, *place, **more)

    warnings.showwarning = show


def _drop_output() -> None:
    """Discard further output: the pipe is closed or the device is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(error: HpoError) -> int:
    """Print an error and its advice; returns the exit code."""
    from hpo.redact import redact

    message, interrupted = redact(str(error)), isinstance(error, Interrupted)
    print(message if interrupted else f"error: {message}", file=sys.stderr)
    if error.advice:
        print(error.advice, file=sys.stderr)
    code = error.status if isinstance(error, Interrupted) else error.exit_code
    refusals.refuse(error, message, code, error.advice)
    return code
