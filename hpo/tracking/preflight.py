"""Check within seconds that MLflow can take a study, before the study costs anything."""

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
    check_store(uri)


def check_store(uri: str) -> None:
    """Fail within seconds if MLflow cannot be used at this URI.

    Raises:
        InfrastructureError: as `check_tracking`.
    """
    check_server(uri)
    file = sqlite_file(uri)
    if file is not None and not file.is_file():
        return  # MLflow creates it while the workers start
    if "://" in uri and not uri.startswith(("http://", "https://", "file:")):
        _check_database(uri)


def check_server(uri: str) -> None:
    """Fail within `CONNECT_TIMEOUT_S` if the MLflow server at this URI does not answer. Other URIs pass.

    Raises:
        InfrastructureError: it does not answer. The text names remedies.
    """
    if not uri.startswith(("http://", "https://")):
        return
    try:
        with urllib.request.urlopen(f"{_without_credentials(uri)}/health", timeout=CONNECT_TIMEOUT_S):
            return
    except urllib.error.HTTPError:
        return  # it answers; the first call will show whether it accepts our credentials
    except (OSError, http.client.HTTPException, ValueError) as error:  # also a server that does not speak HTTP
        reason = redact(str(getattr(error, "reason", error)).strip(), uri)
        raise InfrastructureError(
            f"the MLflow server {redact(uri)} does not answer: {reason}{encoding_hint(uri)}. {_REMEDIES}"
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
