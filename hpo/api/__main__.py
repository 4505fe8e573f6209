"""`python -m hpo.api DESCRIPTOR`: the process that drives one study for a Python program.

It gets its request over a pair of sockets that only the two processes hold. If the program ends, however that happens,
the socket closes, and the study stops in order as it does after Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from hpo.api.figures import plots
from hpo.api.messages import Begun, Confirm, Done, Failed, Request, Resume, Run
from hpo.api.sender import Sender
from hpo.driver.confirm import confirm
from hpo.driver.run import resume, run
from hpo.driver.signals import SIGNALS, handle_early, state
from hpo.errors import HpoError, Interrupted, UsageError
from hpo.ledger.reader import ledger_with, read_study
from hpo.ledger.records import StudyRecord
from hpo.spec.paths import with_absolute_paths
from hpo.spec.study import Spec
from hpo.tracking.process.child import Child
from hpo.validation.loader import load_spec, parse_spec
from hpo.validation.problems import SpecificationError
from hpo.validation.revision import continued, revise
from trainers.api import TrainerError


def main(descriptor: int) -> None:
    """Do what the caller asks, tell it how that went, and end."""
    handle_early()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    connection: Connection[Any, Any] = Connection(descriptor)
    sender = Sender(connection)
    sender.finish(_answer(connection, sender))
    os._exit(0)  # where Ray was starting, its threads would keep the process alive


def _answer(connection: Connection[Any, Any], sender: Sender) -> Done | Failed:
    """Do what the caller asks, and say how that went."""
    try:
        request: Request = connection.recv()
        threading.Thread(target=_stop_with_the_caller, args=(connection,), name="caller", daemon=True).start()
        return Done(_perform(request, sender).name)
    except HpoError as error:
        return Failed(error)
    except TrainerError as error:
        return Failed(UsageError(str(error)))
    except SystemExit:  # a signal before there was a study to stop
        return Failed(Interrupted(state.early or signal.SIGTERM))
    except Exception:  # noqa: BLE001 - a mistake in this program, of which the caller is to see all
        return Failed(HpoError(f"the study stopped because of a mistake in hpo:\n{traceback.format_exc()}"))


def _stop_with_the_caller(connection: Connection[Any, Any]) -> None:
    """Stop the study in order when the caller is gone: nothing is left to be received."""
    try:
        connection.recv()
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)


def _perform(request: Request, view: Sender) -> StudyRecord:
    if isinstance(request, Confirm):
        home, verbose = request.home, request.verbose
        view.send(Begun(request.name))
        return confirm(
            request.name, home, top=request.top, seeds=request.seeds, view=view, say=view.say, verbose=verbose
        )
    with Child() as mlflow:
        return _run_or_resume(request, view, mlflow)


def _run_or_resume(request: Run | Resume, view: Sender, mlflow: Child) -> StudyRecord:
    home, verbose = request.home, request.verbose
    if isinstance(request, Run):
        spec, beside = _specification(request, lambda spec: mlflow.load(spec, home))
        if not request.resume or ledger_with(home, spec.study) is None:
            return run(
                spec, home, view=view, figures=plots, say=view.say, verbose=verbose, beside=beside, mlflow=mlflow
            )
        name, changes = spec.study, partial(continued, revised=with_absolute_paths(spec, home.path))
        recorded = read_study(home, name)
        if recorded.ended and recorded.driver == "none" and changes(recorded.spec) == recorded.spec:
            return recorded
    else:
        name, changes = request.name, partial(revise, overrides=request.overrides)
    view.send(Begun(name))
    return resume(name, home, view=view, changes=changes, figures=plots, say=view.say, verbose=verbose, mlflow=mlflow)


def _specification(request: Run, meanwhile: Callable[[Spec], None]) -> tuple[Spec, Path | None]:
    """The study, and the folder where its own trainer may lie."""
    if request.text is None:
        spec = load_spec(request.source, request.overrides, meanwhile)
        return spec, Path(request.source).parent if Path(request.source).is_file() and not spec.shipped else None
    try:
        spec = parse_spec(request.text, request.source, request.overrides, meanwhile)
    except SpecificationError as error:
        raise SpecificationError((problem.without_line() for problem in error.problems), error.source) from None
    return spec, None if spec.shipped else Path.cwd()


if __name__ == "__main__":
    main(int(sys.argv[1]))
