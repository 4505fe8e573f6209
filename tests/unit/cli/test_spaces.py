"""`hpo spaces` lists and shows what ships; `hpo copy` makes a file of it that means the same elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from rich.console import Console
from typer.testing import CliRunner

import search_spaces
from hpo.cli.app import app
from hpo.cli.begin.spaces import COLUMNS, _table, entry
from hpo.errors import UsageError
from hpo.validation.yaml_reader import read

NAMES = sorted(search_spaces.shipped())


def shown(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, UsageError), done.output
    assert done.stdout == ""
    return str(done.exception)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_list_has_a_line_for_each_file_with_data_model_hardware_and_length() -> None:
    lines = {line.split()[0]: line for line in shown("spaces").splitlines() if line}
    assert set(NAMES) <= set(lines)
    assert "cifar10   tf_efficientnetv2_b0  two CPU cores    half an hour" in lines["cifar10_cpu"]
    assert "cifar10   several               two CPU cores" in lines["models_cpu"]
    assert "cifar10  tf_efficientnetv2_l  CUDA GPU, 24 GB      20" in lines["hankyul2_l"]


def test_the_list_fits_a_terminal_of_80_columns() -> None:
    for kind, columns in COLUMNS.items():
        rows = [each for each in map(entry, NAMES) if each["kind"] == kind]
        assert rows
        assert Console(width=500).measure(_table(rows, columns)).maximum <= 80


def test_the_list_is_there_as_json() -> None:
    entries = {each["name"]: each for each in json.loads(shown("spaces", "--json"))}
    assert sorted(entries) == NAMES
    quickstart = entries["quickstart"]
    assert (quickstart["kind"], quickstart["data"], quickstart["trials"]) == ("study", "shapes", 12)
    assert Path(quickstart["file"]).is_file()
    assert json.loads(shown("spaces", "quickstart", "--json"))["text"] == Path(quickstart["file"]).read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_prints_the_file(name: str) -> None:
    assert shown("spaces", name) == search_spaces.shipped()[name].read_text()


def test_a_comment_at_the_beginning_is_read_line_by_line() -> None:
    comment = (
        "# schema\n#\n# Two\n# lines.\n#\n#   hardware   one\n#              two\n#   takes      long\n#\n# More.\n"
    )
    text = f"{comment}\nstudy: a\n"
    assert search_spaces.header(text) == {"summary": "Two lines.", "hardware": "one two", "takes": "long"}
    assert search_spaces.header("# schema\nstudy: a\n") == {"summary": ""}


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_means_what_the_shipped_file_means(name: str, here: Path) -> None:
    shown("copy", name, "my file.yaml")
    copied = (here / "my file.yaml").read_text()
    ours = {"study": "my_file"} if name in search_spaces.studies() else {}
    assert read(copied).data == read(shown("spaces", name)).data | ours
    assert f"hpo {'run' if ours else 'retrain'} 'my file.yaml'" in copied
    assert f" {name} " not in copied.partition("\n\n")[0].replace(f"`{name}`", "")


def test_the_schema_of_a_copy_is_found_from_anywhere(here: Path) -> None:
    shown("copy", "cifar10")
    address = (here / "cifar10.yaml").read_text().splitlines()[0].removeprefix(search_spaces.MODELINE)
    assert Path(unquote(urlsplit(address).path)) == search_spaces.FOLDER / "schema.json"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["spaces", "cifra10"], "did you mean cifar10?"),
        (["spaces", "x"], "shipped with hpo: cifar10, "),
        (["copy", "paper_cifr10", "a.yaml"], "did you mean paper_cifar10?"),
        (["copy", "", "a.yaml"], "shipped with hpo: cifar10, "),
        (["copy", "cifar10", "there.yaml"], "there.yaml exists already; name another file, or replace it with --force"),
        (["copy", "cifar10", "."], ". is a folder"),
        (["copy", "cifar10", "no/a.yaml"], "there is no folder no"),
    ],
)
def test_wrong_words_are_refused_and_nothing_is_written(arguments: list[str], said: str, here: Path) -> None:
    (here / "there.yaml").write_text("mine")
    assert said in refused(*arguments)
    assert (here / "there.yaml").read_text() == "mine"
    assert [path.name for path in here.iterdir()] == ["there.yaml"]


def test_force_replaces_a_file(here: Path) -> None:
    (here / "cifar10.yaml").write_text("mine")
    shown("copy", "cifar10", "--force")
    assert read((here / "cifar10.yaml").read_text()).data["study"] == "cifar10"


@pytest.mark.parametrize(("file", "study"), [("a.b.yaml", "a"), ("_x.yaml", "study"), ("my study.yml", "my_study")])
def test_a_copy_is_named_after_its_file_where_that_is_a_name(file: str, study: str, here: Path) -> None:
    shown("copy", "quickstart", file)
    assert read((here / file).read_text()).data["study"] == study
