"""The command line: what commands there are, and how each ends. Heavy imports wait inside them."""

from __future__ import annotations

import os
import sys

import typer

from hpo.cli.results import audit, export, ls, report, retrain, status
from hpo.cli.study import confirm, resume, run
from hpo.cli.tools import doctor, schema, ui, validate
from hpo.errors import HpoError

app = typer.Typer(
    name="hpo",
    help="Search hyperparameters for EfficientNetV2: run a study, browse it in MLflow, export and retrain the best.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = (
    run,
    resume,
    confirm,
    status,
    audit,
    ls,
    export,
    report,
    retrain,
    ui,
    validate,
    schema,
    doctor,
)
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Entry point: runs a command and turns errors into messages and exit codes."""
    from hpo.driver.signals import Interrupted, handle_early
    from trainers.api import TrainerError

    handle_early()
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Interrupted as error:
        code = _say(error)
        sys.stdout.flush()
        os._exit(code)  # what was interrupted may be a start of Ray, whose threads do not let the process end
    except HpoError as error:
        sys.exit(_say(error))
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _say(error: HpoError) -> int:
    from hpo.driver.signals import Interrupted
    from hpo.redact import redact

    interrupted = isinstance(error, Interrupted)
    print(redact(str(error) if interrupted else f"error: {error}"), file=sys.stderr)
    if error.advice:
        print(error.advice, file=sys.stderr)
    return error.status if isinstance(error, Interrupted) else error.exit_code
