"""Check within seconds that MLflow can take a study, before the study costs anything."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hpo.errors import HpoError, InfrastructureError, UsageError
from hpo.files import sqlite_file
from hpo.home import Home
from hpo.redact import encoding_hint, redact
from hpo.spec.study import Spec
from hpo.text import first_line, shorten
from hpo.tracking.runs import find_experiment, tracking_uri

CONNECT_TIMEOUT_S = 8

_REMEDIES = (
    "Start it, or set tracking.uri=URI to another one, or leave tracking.uri and MLFLOW_TRACKING_URI unset to track "
    "in the home folder, or set tracking.enabled=false to run without MLflow"
)


def check_tracking(spec: Spec, home: Home) -> None:
    """Fail within seconds if MLflow cannot take this study.

    Raises:
        UsageError: MLflow and the ledger would share a database, but both keep a table `alembic_version` in theirs.
        InfrastructureError: the server does not answer, or the database has another schema. The text names remedies.
    """
    uri = tracking_uri(home, spec)
    if uri == (spec.storage.ledger or home.ledger_url):
        raise UsageError(
            f"tracking.uri and storage.ledger are both {redact(uri)}, but MLflow and the ledger need separate databases"
        )
    check_store(uri, spec.tracking.experiment or spec.study)


def check_store(uri: str, experiment: str = "Default") -> None:
    """Fail within seconds if MLflow cannot be used at this URI.

    Raises:
        InfrastructureError: as `check_tracking`.
    """
    file = sqlite_file(uri)
    if file is not None and not file.is_file():
        return  # MLflow creates it while the workers start
    server = uri.startswith(("http://", "https://"))
    if "://" in uri and not server and not uri.startswith("file:"):
        _check_database(uri)
    from mlflow import MlflowClient

    try:
        with _impatient():
            found = find_experiment(MlflowClient(tracking_uri=uri), experiment)
    except HpoError:
        raise
    except Exception as error:  # MLflow, requests and the plugins for authentication each raise their own
        raise InfrastructureError(f"{_refusal(uri, error)}. {_REMEDIES}") from error
    if found is not None and found.name != experiment:
        raise InfrastructureError(f"{redact(uri)} answers, but not as an MLflow server does. {_REMEDIES}")


@contextmanager
def _impatient() -> Iterator[None]:
    """Let MLflow's client ask once and wait `CONNECT_TIMEOUT_S`; its own default is minutes. All else is as set."""
    limits = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(math.ceil(CONNECT_TIMEOUT_S)),
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


def _refusal(uri: str, error: Exception) -> str:
    """What is wrong with the MLflow at this URI, in one sentence without its full stop."""
    from mlflow.exceptions import RestException

    text = str(error)
    code = getattr(error, "get_http_status_code", int)() if isinstance(error, RestException) else 0
    status = re.search(r"failed with error code (\d+)", text)
    status_code = int(status[1]) if status else code
    if status_code in (401, 403):
        return (
            f"the MLflow server {redact(uri)} refuses these credentials (HTTP {status_code}); set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    cause = shorten(redact(first_line(text), uri), 300)
    if status or "valid JSON" in text:
        return f"{redact(uri)} answers, but not as an MLflow server does: {cause}"
    if uri.startswith(("http://", "https://")):
        return f"the MLflow server {redact(uri)} does not answer: {cause}{encoding_hint(uri)}"
    return f"MLflow cannot use {redact(uri)}: {cause}"


def _check_database(uri: str) -> None:
    import sqlalchemy
    import sqlalchemy.exc
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        timeout = {} if uri.startswith("sqlite") else {"connect_timeout": CONNECT_TIMEOUT_S}
        engine = sqlalchemy.create_engine(uri, connect_args=timeout)
        engine.connect().close()  # first, because MLflow would try again for minutes
        engine.dispose()
        MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        cause = first_line(getattr(error, "orig", None) or error)
        raise InfrastructureError(
            f"MLflow's database {redact(uri)} cannot be used: {redact(cause, uri)}{encoding_hint(uri)}. {_REMEDIES}"
        ) from error
    except MlflowException as error:
        raise InfrastructureError(f"MLflow cannot use {redact(uri)}: {_schema_remedy(uri, str(error))}") from error


def _schema_remedy(uri: str, text: str) -> str:
    """What to do about a database of another schema. MLflow's own text says `db upgrade` for newer schemas too."""
    import mlflow

    schema = re.search(r"found version (\w+)", text)
    if schema is None:
        return redact(text)
    migrations = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    if any(migrations.glob(f"{schema[1]}*.py")):
        return f"it has the schema of an older MLflow. Back it up, then type: mlflow db upgrade {redact(uri)}"
    return "it has the schema of a newer MLflow. Install that version: pip install --upgrade mlflow"
