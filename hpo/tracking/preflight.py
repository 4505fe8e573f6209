"""Check within seconds that MLflow can take a study, before the study costs anything."""

from __future__ import annotations

import os
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer  # Python 3.10 has a class of its own for it
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.databases import Owner, owner, same_database
from hpo.errors import HpoError, InfrastructureError, UsageError
from hpo.home import Home
from hpo.redact import encoding_hint, redact
from hpo.spec.study import Spec
from hpo.sqlite_urls import sqlite_file
from hpo.text import first_line, shorten
from hpo.tracking.runs import tracking_uri
from hpo.tracking.upkeep.naming import find_experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient

CONNECT_TIMEOUT_S = 9
"""Longest time for all questions to a server together, in seconds."""
LONGEST_EXPERIMENT = 500
"""Longest name of an experiment that MLflow takes, in characters."""

_HOME = (
    "leave tracking.uri and MLFLOW_TRACKING_URI unset to track in the home folder, or set tracking.enabled=false to "
    "run without MLflow"
)
_ELSEWHERE = f"set tracking.uri=URI to another one, or {_HOME}"
_SEPARATE = "but MLflow and the ledger need separate databases, because both keep a table alembic_version"


def check_tracking(spec: Spec, home: Home) -> None:
    """Fail within seconds if MLflow cannot take this study.

    Raises:
        UsageError: MLflow and the ledger would share a database, or MLflow does not take the experiment's name.
        InfrastructureError: the server does not answer, or the database has another schema. The text names remedies.
    """
    experiment = spec.tracking.experiment or spec.study
    if len(experiment) > LONGEST_EXPERIMENT:
        raise UsageError(
            f"tracking.experiment has {len(experiment)} characters, but MLflow takes at most {LONGEST_EXPERIMENT}; "
            "set a shorter one"
        )
    check_store(tracking_uri(home, spec), experiment, spec.storage.ledger or home.ledger_url)


def load(uri: str) -> None:
    """Import what MLflow needs for this URI, which takes seconds."""
    import mlflow.store.tracking.rest_store

    if _is_database(uri):
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def check_store(uri: str, experiment: str = "Default", ledger: str | None = None) -> None:
    """Fail within seconds if MLflow cannot be used at this URI.

    Args:
        ledger: URL of the ledger, which must be another database.

    Raises:
        UsageError, InfrastructureError: as `check_tracking`.
    """
    load(uri)  # it takes seconds that are not the server's
    from mlflow import MlflowClient

    if _is_database(uri):
        _refuse_place(uri)

    def ask() -> None:
        if ledger is not None and same_database(uri, ledger):
            raise UsageError(
                f"tracking.uri {redact(uri)} and storage.ledger {redact(ledger)} are one database, {_SEPARATE}; "
                f"{_ELSEWHERE}"
            )
        if _is_database(uri) and not _holds_runs(uri):
            return  # MLflow makes its tables while the workers start
        _find(lambda: MlflowClient(tracking_uri=uri), uri, experiment)

    if sqlite_file(uri) is not None:
        ask()  # not in a thread: MLflow may be bringing the file to its newest schema, which must not be cut off
        return
    try:
        with _impatient():
            _in_thread(ask, CONNECT_TIMEOUT_S)
    except NoAnswer as error:
        place = redact(uri)
        raise InfrastructureError(
            f"MLflow at {place} does not answer within {CONNECT_TIMEOUT_S} s{encoding_hint(uri)}; start it, or "
            f"{_ELSEWHERE}"
        ) from error


def _in_thread(call: Callable[[], None], seconds: float) -> None:
    """Call `call`, and raise what it raises.

    Only a thread can be left after so many seconds: a server that sends a byte now and then outlasts the time limits
    of all libraries.

    Raises:
        NoAnswer: the call takes longer than `seconds`.
    """
    answer: Future[None] = Future()

    def work() -> None:
        try:
            call()
            answer.set_result(None)
        except BaseException as error:  # noqa: BLE001 - it is raised where the answer is read
            answer.set_exception(error)

    threading.Thread(target=work, name="mlflow-preflight", daemon=True).start()
    answer.result(seconds)


@contextmanager
def _impatient() -> Iterator[None]:
    """Let MLflow's client ask once and wait `CONNECT_TIMEOUT_S`; its own default is minutes. All else is as set."""
    limits = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, int(CONNECT_TIMEOUT_S))),
    }
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# ----------------------------------------------------------------------------------------------- databases


def _is_database(uri: str) -> bool:
    from mlflow.store.db.db_types import DATABASE_ENGINES

    scheme, colon, _ = uri.partition("://")
    return bool(colon) and scheme.partition("+")[0] in DATABASE_ENGINES


def _refuse_place(uri: str) -> None:
    """Raises UsageError for an SQLite database in memory, and InfrastructureError for a file that cannot be created."""
    file = sqlite_file(uri)
    if file is None and re.fullmatch(r"sqlite(\+\w+)?://(/?|/:memory:.*)", uri):
        raise UsageError(f"tracking.uri {uri} is a database in memory, which ends with this process; {_ELSEWHERE}")
    if file is None or file.exists():
        return
    folder = next(folder for folder in file.absolute().parents if folder.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InfrastructureError(
            f"MLflow's database {redact(uri)} cannot be created, because {folder} is no folder that this user may "
            f"write to; {_ELSEWHERE}"
        )


def _holds_runs(uri: str) -> bool:
    """Whether the database has MLflow's tables; False if it is empty.

    Raises:
        UsageError: it holds the tables of another program.
        InfrastructureError: it cannot be reached.
    """
    import sqlalchemy.exc

    try:
        holder = owner(uri)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        cause = redact(first_line(getattr(error, "orig", None) or error), uri)
        raise InfrastructureError(
            f"MLflow's database {redact(uri)} cannot be used: {cause}{encoding_hint(uri)}; start it, or {_ELSEWHERE}"
        ) from error
    if holder not in (None, Owner.MLFLOW):
        raise UsageError(f"tracking.uri {redact(uri)} holds the tables of {holder.value}, {_SEPARATE}; {_ELSEWHERE}")
    return holder is not None


def _schema_remedy(uri: str, text: str) -> str | None:
    """What to do about a database of another schema. MLflow's own text says `db upgrade` for newer schemas too."""
    import mlflow

    schema = re.search(r"found version (\w+)", text)
    if schema is None:
        return None
    migrations = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    if any(migrations.glob(f"{schema[1]}*.py")):
        place = shlex.quote(redact(uri))
        return f"it has the schema of an older MLflow. Back it up, then type: mlflow db upgrade {place}"
    return "it has the schema of a newer MLflow. Install that version: pip install --upgrade mlflow"


# ------------------------------------------------------------------------------------------------- MLflow


def _find(client: Callable[[], MlflowClient], uri: str, experiment: str) -> None:
    """Ask MLflow for the experiment, as a study does first.

    Raises:
        InfrastructureError: MLflow does not answer as it should, or the experiment is deleted.
    """
    try:
        found = find_experiment(client(), experiment)
    except HpoError:
        raise
    except Exception as error:  # MLflow, requests and the plugins for authentication each raise their own
        raise InfrastructureError(_refusal(uri, error, experiment)) from error
    if found is not None and found.name != experiment:
        raise InfrastructureError(f"{redact(uri)} answers, but not as an MLflow server does; {_ELSEWHERE}")


def _refusal(uri: str, error: Exception, experiment: str) -> str:
    """What is wrong with the MLflow at this URI, and the ways out."""
    place = redact(uri)
    if "filesystem tracking backend" in str(error):
        return (
            f"MLflow no longer keeps runs in a folder of files such as {place} (`mlflow migrate-filestore` copies them "
            f"into a database); set tracking.uri=sqlite:////PATH/mlflow.db or to a server, or {_HOME}"
        )
    if not uri.lower().startswith(("http://", "https://")):
        remedy = _schema_remedy(uri, str(error))
        cause = remedy or f"{_short(str(error), uri)}; {_ELSEWHERE}"
        return f"MLflow cannot use {place}: {cause}"
    if (broken := _connection_error(error)) is not None:
        return _unreachable(uri, broken)
    status = _status(uri, experiment)
    if status in (401, 403):
        return (
            f"the MLflow server {place} refuses these credentials (HTTP {status}); set MLFLOW_TRACKING_USERNAME and "
            f"MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, to those of a person who may use the experiment "
            f"{experiment!r}, or {_ELSEWHERE}"
        )
    if status == 407:
        return _closed_proxy(uri, "it asks for credentials (HTTP 407)")
    if status is None:
        return f"MLflow's client cannot ask {place}: {_short(str(error), uri)}; change its settings, or {_ELSEWHERE}"
    return f"{place} answers (HTTP {status}), but not as an MLflow server does: {_short(str(error), uri)}; {_ELSEWHERE}"


def _connection_error(error: BaseException | None) -> Exception | None:
    """The error of the connection that led to `error`; None if the server has answered."""
    from requests.exceptions import RequestException

    while error is not None:
        if isinstance(error, RequestException | OSError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _unreachable(uri: str, error: Exception) -> str:
    from requests.exceptions import ProxyError, RetryError, SSLError

    root: BaseException = error
    while (below := root.__cause__ or root.__context__) is not None:
        root = below
    place, cause = redact(uri), _short(str(root) or type(root).__name__, uri)
    if isinstance(error, ProxyError):
        return _closed_proxy(uri, cause)
    if "WRONG_VERSION_NUMBER" in cause:
        return f"the server {place} does not speak TLS; begin the address with http://, or {_ELSEWHERE}"
    if isinstance(error, SSLError) or "TLS" in cause:
        return (
            f"the certificate of the MLflow server {place} cannot be checked: {cause}; set "
            f"MLFLOW_TRACKING_SERVER_CERT_PATH to the file of the authority that signed it, or {_ELSEWHERE}"
        )
    if isinstance(error, RetryError):
        return f"the MLflow server {place} fails: {cause}; read its log, or {_ELSEWHERE}"
    return f"the MLflow server {place} does not answer: {cause}{encoding_hint(uri)}; start it, or {_ELSEWHERE}"


def _closed_proxy(uri: str, cause: str) -> str:
    return (
        f"the proxy on the way to the MLflow server {redact(uri)} does not let requests pass: {cause}; name the server "
        f"in NO_PROXY, or correct HTTP_PROXY and HTTPS_PROXY, or {_ELSEWHERE}"
    )


def _status(uri: str, experiment: str) -> int | None:
    """The status of the server's answer, which the errors of MLflow's client do not tell. None if it gives none."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        credentials = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
        path, query = "/api/2.0/mlflow/experiments/get-by-name", {"experiment_name": experiment}
        answer = http_request(credentials, path, "GET", params=query)  # type: ignore[no-untyped-call]
    except Exception:  # noqa: BLE001 - the first error says what is wrong
        return None
    return int(answer.status_code)


def _short(text: str, uri: str) -> str:
    return shorten(redact(first_line(text), uri), 300).rstrip(". ")
