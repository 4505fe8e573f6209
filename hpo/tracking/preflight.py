"""Whether MLflow can take a study, found out within seconds and before anything is spent."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from hpo.errors import InfrastructureError, UsageError
from hpo.files import sqlite_file
from hpo.home import Home
from hpo.redact import encoding_hint, redact
from hpo.spec.study import Spec
from hpo.text import first_line
from hpo.tracking.runs import tracking_uri

CONNECT_TIMEOUT_S = 8

_WAYS_OUT = (
    "Start it, name another by tracking.uri=URI, track into the home folder by leaving tracking.uri and "
    "MLFLOW_TRACKING_URI unset, or go without by tracking.enabled=false (`hpo doctor NAME` can write everything later)"
)


def check_tracking(spec: Spec, home: Home) -> None:
    """Fail within seconds where MLflow cannot take this study.

    Raises:
        UsageError: its database is the ledger's, and each of the two would take the other's tables for its own.
        InfrastructureError: the server does not answer, or the database has another schema; with the way out.
    """
    uri = tracking_uri(home, spec)
    if uri == (spec.storage.ledger or home.ledger_url):
        raise UsageError(f"tracking.uri: MLflow and the ledger need a database each, but both are {redact(uri)}")
    check_store(uri)


def check_store(uri: str) -> None:
    """The part of `check_tracking` that needs no study."""
    check_server(uri)
    file = sqlite_file(uri)
    if file is not None and not file.is_file():
        return  # MLflow creates it while the workers start
    if "://" in uri and not uri.startswith(("http://", "https://", "file:")):
        _check_database(uri)


def check_server(uri: str) -> None:
    """Fail within seconds where an MLflow server cannot be reached.

    Raises:
        InfrastructureError: with the ways out.
    """
    if not uri.startswith(("http://", "https://")):
        return
    try:
        with urllib.request.urlopen(f"{_without_credentials(uri)}/health", timeout=CONNECT_TIMEOUT_S):
            return
    except urllib.error.HTTPError:
        return  # it answers; whether it lets us in shows at the first call
    except (OSError, http.client.HTTPException, ValueError) as error:  # also one that speaks something else
        reason = redact(str(getattr(error, "reason", error)).strip(), uri)
        raise InfrastructureError(
            f"the MLflow server {redact(uri)} does not answer: {reason}{encoding_hint(uri)}. {_WAYS_OUT}"
        ) from error


def _without_credentials(uri: str) -> str:
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")


def _check_database(uri: str) -> None:
    import sqlalchemy
    import sqlalchemy.exc
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        timeout = {} if uri.startswith("sqlite") else {"connect_timeout": CONNECT_TIMEOUT_S}
        engine = sqlalchemy.create_engine(uri, connect_args=timeout)
        engine.connect().close()  # before MLflow, which would try again for minutes
        engine.dispose()
        MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        cause = first_line(getattr(error, "orig", None) or error)
        raise InfrastructureError(
            f"MLflow's database {redact(uri)} cannot be used: {redact(cause, uri)}{encoding_hint(uri)}. {_WAYS_OUT}"
        ) from error
    except MlflowException as error:
        raise InfrastructureError(f"MLflow cannot use {redact(uri)}: {_schema_remedy(uri, str(error))}") from error


def _schema_remedy(uri: str, text: str) -> str:
    """MLflow says `db upgrade` also of a schema that is newer than itself."""
    import mlflow

    found = re.search(r"found version (\w+)", text)
    if found is None:
        return redact(text)
    known = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    if any(known.glob(f"{found[1]}*.py")):
        return f"it has the schema of an older MLflow. Back it up, then: mlflow db upgrade {redact(uri)}"
    return "it has the schema of a newer MLflow; use that version: pip install --upgrade mlflow"
