"""The check of MLflow before a study starts: one sentence for each wrong answer."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow import MlflowClient

from hpo.cli import doctor
from hpo.errors import InfrastructureError, UsageError
from hpo.home import Home
from hpo.ledger.storage import open_storage
from hpo.tracking.preflight import check_store, check_tracking
from tests.conftest import synthetic_spec

NO_EXPERIMENT = 404, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such experiment"}'
"""MLflow's answer where a study is new."""


@contextmanager
def server(*answer: Any, accepts: str | None = None, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that gives every request the same answer, but MLflow's to the authorization that it accepts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answer
            if accepts and self.headers.get("Authorization") == accepts:
                status, body = NO_EXPERIMENT
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_CONNECT = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as http:
        if tls:
            http.socket = tls.wrap_socket(http.socket, server_side=True)
        threading.Thread(target=http.serve_forever, daemon=True).start()
        try:
            yield f"{'https' if tls else 'http'}://me:s3cret@127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()


def refusal(uri: str) -> str:
    """What the check says of the MLflow at this URI: one line, with the ways out and without the password."""
    with pytest.raises(InfrastructureError) as refused:
        check_store(uri)
    text = str(refused.value)
    assert "tracking.enabled=false" in text
    assert "s3cret" not in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b"You are not authenticated", "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (401, b'{"error_code": "UNAUTHENTICATED", "message": "no"}', "refuses these credentials (HTTP 401)"),
        (401, b'{"detail": "Unauthorized"}', "refuses these credentials (HTTP 401)"),
        (401, b"", "MLFLOW_TRACKING_TOKEN"),
        (403, b"Permission denied", "refuses these credentials (HTTP 403)"),
        (403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}', "refuses these credentials (HTTP 403)"),
        (200, b"<html>Welcome to nginx</html>", "not as an MLflow server does"),
        (200, b'{"status": "up"}', "not as an MLflow server does"),
        (200, b"[]", "not as an MLflow server does"),
        (404, b"<html>Not found</html>", "not as an MLflow server does"),
        (404, b'{"detail": "Not Found"}', "not as an MLflow server does"),
        (503, b"", "too many 503 error responses"),
    ],
)
def test_a_server_that_refuses_or_is_no_mlflow_server_is_named_before_the_start(
    status: int, body: bytes, said: str
) -> None:
    with server(status, body) as uri:
        text = refusal(uri)
    assert said in text
    assert "start it" not in text, "it runs"


@pytest.mark.parametrize(
    ("settings", "header"),
    [
        ({"MLFLOW_TRACKING_USERNAME": "you", "MLFLOW_TRACKING_PASSWORD": "word"}, "Basic eW91OndvcmQ="),
        ({"MLFLOW_TRACKING_TOKEN": "token"}, "Bearer token"),
        ({}, "Basic bWU6czNjcmV0"),  # those in the URI
    ],
)
def test_credentials_are_taken_from_where_mlflows_client_takes_them(
    settings: dict[str, str], header: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with server(401, b"no", accepts=header) as uri:
        check_store(uri.replace("me:s3cret@", "") if settings else uri)


def test_a_certificate_of_ones_own_is_accepted_by_mlflows_own_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = own_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with server(*NO_EXPERIMENT, tls=tls) as uri:
        assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in refusal(uri)
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
        check_store(uri)
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "nothing"))
        assert "MLFLOW_TRACKING_SERVER_CERT_PATH" in refusal(uri)


def own_certificate(folder: Path) -> Path:
    """A file with a new key and a certificate for 127.0.0.1 that is signed with it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    path = folder / "own.pem"
    path.write_bytes(private + certificate.public_bytes(encoding))
    return path


def test_a_proxy_that_lets_nothing_pass_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(407, b"<html>Who are you?</html>") as proxy:
        for scheme in ("http", "https"):
            monkeypatch.setenv(f"{scheme}_proxy", proxy)
            assert "NO_PROXY" in refusal(f"{scheme}://mlflow.invalid")


def test_a_server_that_sends_a_byte_now_and_then_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.tracking.preflight.CONNECT_TIMEOUT_S", 0.5)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            with listener.accept()[0] as connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while not over.wait(0.05):
                    connection.sendall(b" ")

        threading.Thread(target=drip, daemon=True).start()
        text = refusal(f"http://127.0.0.1:{listener.getsockname()[1]}")
        over.set()
    assert "does not answer within 0.5 s" in text


@pytest.mark.parametrize("uri", ["file:./mlruns", "./mlruns", "/somewhere/mlruns"])
def test_a_folder_of_files_is_refused_with_the_kind_of_uri_that_works(uri: str) -> None:
    assert "tracking.uri=sqlite:////PATH/mlflow.db" in refusal(uri)


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite+pysqlite://"])
def test_a_database_in_memory_is_refused_because_its_records_would_end_with_the_process(uri: str) -> None:
    with pytest.raises(UsageError, match="is a database in memory"):
        check_store(uri)


@pytest.mark.parametrize("uri", ["HTTP://127.0.0.1:1", "http://[::1"])
def test_an_odd_spelling_of_a_servers_uri_is_one_sentence(uri: str) -> None:
    """A scheme may be in capitals, and a port may be cut off."""
    with pytest.raises(InfrastructureError, match=r"does not answer|cannot ask"):
        check_store(uri, ledger="sqlite:///ledger.db")


def test_an_sqlite_file_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be created" in refusal(f"sqlite:///{tmp_path}/file/mlflow.db")


def test_a_name_that_mlflow_does_not_take_is_refused_before_the_start(home: Home) -> None:
    with pytest.raises(UsageError, match=r"tracking.experiment has 501 characters.*at most 500"):
        check_tracking(synthetic_spec(tracking={"experiment": "x" * 501}), home)


def test_mlflow_and_the_ledger_never_share_a_database_however_it_is_called(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ledger = tmp_path / "ledger.db"
    for uri in (f"sqlite:///{ledger}", "sqlite:///ledger.db", f"sqlite:///{tmp_path}/../{tmp_path.name}/ledger.db"):
        spec = synthetic_spec(storage={"ledger": f"sqlite:///{ledger}"}, tracking={"uri": uri})
        with pytest.raises(UsageError, match="one database"):
            check_tracking(spec, home)
    assert not ledger.exists()


def test_mlflow_makes_no_tables_among_those_of_optuna_nor_optuna_among_those_of_mlflow(home: Home) -> None:
    open_storage(home.ledger_url)
    MlflowClient(tracking_uri=home.mlflow_url).search_experiments()
    before = tables(home.ledger_url), tables(home.mlflow_url)
    with pytest.raises(UsageError, match="holds the tables of Optuna"):
        check_store(home.ledger_url)
    with pytest.raises(UsageError, match="holds the tables of MLflow"):
        open_storage(home.mlflow_url)
    assert (tables(home.ledger_url), tables(home.mlflow_url)) == before


def tables(url: str) -> list[str]:
    """The names of a database's tables."""
    return sorted(sqlalchemy.inspect(sqlalchemy.create_engine(url)).get_table_names())


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
