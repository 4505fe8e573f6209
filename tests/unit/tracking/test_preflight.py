"""The check of MLflow before a study starts: one sentence for each wrong answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from mlflow import MlflowClient

from hpo.cli import doctor
from hpo.errors import InfrastructureError
from hpo.home import Home
from hpo.tracking.preflight import check_store, check_tracking
from tests.conftest import synthetic_spec


@contextmanager
def server(status: int, body: bytes) -> Iterator[str]:
    """A server that gives every request the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        try:
            yield f"http://me:s3cret@127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b"You are not authenticated", r"refuses these credentials \(HTTP 401\)"),
        (401, b'{"error_code": "UNAUTHENTICATED", "message": "no"}', "refuses these credentials"),
        (403, b"Permission denied", r"refuses these credentials \(HTTP 403\)"),
        (403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}', "refuses these credentials"),
        (200, b"<html>Welcome to nginx</html>", "not as an MLflow server does"),
        (200, b'{"status": "up"}', "not as an MLflow server does"),
        (404, b"<html>Not found</html>", "not as an MLflow server does"),
    ],
)
def test_a_server_that_refuses_or_is_no_mlflow_server_is_named_before_the_start(
    status: int, body: bytes, said: str
) -> None:
    with server(status, body) as uri, pytest.raises(InfrastructureError, match=said) as refused:
        check_store(uri)
    assert "tracking.enabled=false" in str(refused.value)
    assert "s3cret" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_deleted_experiment_is_found_by_the_check_before_the_start(home: Home) -> None:
    client = MlflowClient(tracking_uri=home.mlflow_url)
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(InfrastructureError, match=r"'gone' is deleted.*mlflow experiments restore"):
        check_tracking(synthetic_spec("gone"), home)


def test_the_doctor_names_whatever_mlflow_raises(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("runs")

    monkeypatch.setattr(doctor, "compare", broken)
    assert doctor.examine(home, "any") == 1
    assert "the study cannot be compared: KeyError: 'runs'" in capsys.readouterr().out
