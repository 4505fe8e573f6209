"""Wrong usage of a home that has a study: one sentence with the remedy, never a traceback; nothing is spent."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.errors import UsageError
from hpo.home import Home
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from tests.conftest import synthetic_spec


@pytest.fixture
def begun(home: Home) -> Home:
    """A home with a study of which no trial is complete, and a file in it."""
    home.study("begun").mkdir(parents=True)
    Ledger.create(open_storage(home.ledger_url), synthetic_spec("begun"), {}).close()
    (home.path / "file").touch()
    return home


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["retrain", "begin"], "begin is not a file, a study in .* did you mean begun"),
        (["retrain", "xyz"], "studies: begun; recipes: course_notebook, "),
        (["retrain", "begun"], "no complete trial yet; `hpo export` writes any trial as it is with --trial N"),
        (["retrain", "paper_cifar10", "--device", "gpu"], "--device gpu is not auto, cpu or cuda"),
        (["retrain", "paper_cifar10", "--output", "FILE"], "--output .*file is a file"),
        (["report", "begun", "--output", "FILE"], "cannot be written to .*file: Not a directory"),
        (["export", "begun"], "no complete trial yet; `hpo export` writes any trial as it is with --trial N"),
        (["confirm", "begun"], "no complete trial yet"),
        (["confirm", "begin"], "no study named 'begin' here; studies: begun"),
        (["resume", "begin"], "no study named 'begin' here; studies: begun"),
    ],
)
def test_wrong_usage_is_reported_in_one_sentence(begun: Home, arguments: list[str], said: str) -> None:
    words = [str(begun.path / "file") if word == "FILE" else word for word in arguments]
    done = CliRunner().invoke(app, [*words, "--home", str(begun.path)])
    assert isinstance(done.exception, UsageError), done.output
    with pytest.raises(UsageError, match=said):
        raise done.exception
    assert done.stdout == ""


def test_a_port_out_of_range_is_refused(begun: Home) -> None:
    assert CliRunner().invoke(app, ["ui", "--port", "99999", "--home", str(begun.path)]).exit_code == 2
