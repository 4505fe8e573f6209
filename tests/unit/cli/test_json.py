"""`--json`: one document on standard output, whatever happens; never NaN; errors keep their exit codes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.cli.programs import documents
from hpo.cli.programs.described import base, results, study, tools
from hpo.cli.programs.described.commands import COMMANDS, output_schema, output_schemas
from hpo.errors import UsageError
from hpo.home import Home
from tests.conftest import REPOSITORY, synthetic_spec
from tests.support.instant_study import train
from tests.support.output_schema import check
from trainers.api import EpochMetrics

NAN = float("nan")
NOT_A_RESULT = {"ui", "schema", "mcp"}
"""`hpo ui` and `hpo mcp` serve, and `hpo schema` prints a JSON Schema already."""


def hpo(*words: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, because errors become text and exit codes there."""
    return subprocess.run([sys.executable, "-m", "hpo", *words], cwd=REPOSITORY, capture_output=True, text=True)


def strict(text: str) -> Any:
    """The document; NaN and the infinities are refused, as by every reader of JSON but Python's."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def test_every_command_that_prints_a_result_has_the_option() -> None:
    commands: Any = getattr(typer.main.get_command(app), "commands")  # noqa: B009 - a group has them
    options = {name: {word for one in command.params for word in one.opts} for name, command in commands.items()}
    assert {name for name, words in options.items() if "--json" not in words} == NOT_A_RESULT


def test_commands_print_json_by_one_function() -> None:
    own = re.compile(r"\bjson\.dumps?\(")
    folder = REPOSITORY / "hpo" / "cli"
    found = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if own.search(path.read_text(encoding="utf-8"))
    }
    # the JSON Schemas, the one function, and values in YAML
    assert found == {
        "tools.py",
        "programs/described/commands.py",
        "programs/documents.py",
        "programs/steering.py",
    }


def test_numbers_that_json_lacks_are_null() -> None:
    content = {"a": NAN, "b": [1.5, float("inf")], "c": ({"d": float("-inf")},), "e": 3, "f": None}
    assert strict(documents.text(content)) == {"a": None, "b": [1.5, None], "c": [{"d": None}], "e": 3, "f": None}


def test_a_trial_that_diverged_is_in_every_document_without_a_nan(home: Home) -> None:
    def diverges(config: Any, epoch: int) -> EpochMetrics:
        return EpochMetrics(epoch=epoch, val_accuracy=NAN if config.extra["quality"] > 0.5 else 0.5, train_loss=NAN)

    train(synthetic_spec(), home, diverges)
    for words in ("status synthetic", "ls", "trials synthetic", "trials synthetic --epochs", "audit synthetic"):
        done = CliRunner().invoke(app, [*words.split(), "--json", "--home", str(home.path)])
        assert done.exit_code == 0, (words, done.output, done.exception)
        check(command(words), strict(done.stdout))


@pytest.mark.parametrize(
    ("words", "code", "error", "said"),
    [
        (["status", "nowhere", "--json"], 2, "UsageError", "no study was run in"),
        (["status", "--jsn", "--json"], 2, "NoSuchOption", "No such option: --jsn"),
        (["export", "--json"], 2, "MissingParameter", "Missing argument 'NAME'"),
        (["run", "quickstart", "train.epoch=3", "--json"], 2, "SpecificationError", "unknown key train.epoch"),
        (["retrain", "nothing", "--json"], 2, "UsageError", "nothing is not a file"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_error_is_a_document_too(words: list[str], code: int, error: str, said: str, tmp_path: Path) -> None:
    home = [] if "--jsn" in words else ["--home", str(tmp_path)]
    done = hpo(*words, *home)
    assert done.returncode == code
    found = strict(done.stdout)
    assert (found["schema"], found["kind"], found["error"], found["exit_code"]) == (1, "error", error, code)
    assert said in found["message"]
    assert said in re.sub(r"\s+", " ", done.stderr), "people and logs still have it on standard error"


def test_the_broken_rules_of_a_specification_are_listed_without_values_that_may_be_secret(tmp_path: Path) -> None:
    mine = tmp_path / "my.yaml"
    mine.write_text("study: my\nnotify: {url: ftp://me:s3cret@host}\nbudget: {trials: 0}\n")
    found = strict(hpo("validate", str(mine), "--json").stdout)
    assert ("budget.trials", 3, "must be >= 1") in [
        (one["path"], one["line"], one["rule"]) for one in found["problems"]
    ]
    assert "notify.url" in [one["path"] for one in found["problems"]]
    assert "s3cret" not in json.dumps(found)


def test_without_the_option_an_error_leaves_standard_output_empty(tmp_path: Path) -> None:
    assert hpo("status", "nowhere", "--home", str(tmp_path)).stdout == ""


PAGE = REPOSITORY / "reports" / "docs" / "json.md"
EXAMPLES = re.findall(
    r"```sh\nhpo ([^\n]+? --json)\n```\n\n```json\n(.+?)\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL
)


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home.at(tmp_path_factory.mktemp("json") / "home").create()

    def metrics(config: Any, epoch: int) -> EpochMetrics:
        return EpochMetrics(epoch=epoch, val_accuracy=config.extra["quality"] * epoch / 10)

    train(synthetic_spec("cifar10"), home, metrics)
    return home


@pytest.mark.parametrize(("words", "example"), EXAMPLES, ids=[words for words, _ in EXAMPLES])
def test_the_examples_of_the_page_have_the_keys_of_the_output(
    words: str, example: str, documented: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "budget.trials=0" in words:  # an error becomes text in a process of its own
        said = strict(hpo(*words.split()).stdout)
    else:
        said = printed(words, documented, tmp_path, monkeypatch)
    assert keys(said) == keys(strict(example))
    check(command(words), said)


@pytest.mark.parametrize(
    "words",
    [
        "trials cifar10 --epochs",
        "export cifar10 --top 2 -o top",
        "spaces quickstart",
        "init mine.yaml --data shapes --device cpu",
        "--version -v",
        "doctor cifar10",
        "rm cifar10 --yes",
    ],
)
def test_every_output_is_what_its_schema_says(
    words: str, documented: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home.at(shutil.copytree(documented.path, tmp_path / "home"))
    check(command(words), printed(f"{words} --json", home, tmp_path, monkeypatch))


def printed(words: str, home: Home, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The document that a command prints."""
    monkeypatch.setenv("HPO_HOME", str(home.path))
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, words.split())
    assert done.exit_code == 0, (done.output, done.exception)
    return strict(done.stdout)


def command(words: str) -> str:
    """The name under which `hpo schema` has the output of a command."""
    return words.split()[0].removeprefix("--")


def keys(value: Any) -> Any:
    """The keys of a document, of the objects in it, and of the first object of each list."""
    if isinstance(value, dict):
        return {key: keys(item) for key, item in value.items()}
    return [keys(item) for item in value[:1] if isinstance(item, dict)] if isinstance(value, list) else None


SCHEMA = REPOSITORY / "reports" / "docs" / "json.schema.json"


def test_the_schema_file_is_current_and_describes_every_key() -> None:
    text = json.dumps(output_schemas(), indent=1) + "\n"
    again = "python -m hpo.cli.programs.described.commands > reports/docs/json.schema.json"
    assert SCHEMA.read_text(encoding="utf-8") == text, f"write it anew: {again}"
    found = json.loads(text)["$defs"]
    ours = {one.__name__ for module in (base, study, results, tools) for one in vars(module).values() if is_part(one)}
    for name in ours & set(found):
        for key, said in found[name]["properties"].items():
            assert "description" in said or "const" in said, (name, key)


def is_part(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, base.Part)


def test_every_command_with_the_option_has_a_schema() -> None:
    commands: Any = getattr(typer.main.get_command(app), "commands")  # noqa: B009 - a group has them
    assert set(COMMANDS) == {*commands, "version"} - NOT_A_RESULT
    done = CliRunner().invoke(app, ["schema", "status"])
    assert (done.exit_code, strict(done.stdout)) == (0, output_schema("status"))
    refused = CliRunner().invoke(app, ["schema", "ui"])
    assert isinstance(refused.exception, UsageError)
    assert "no command 'ui' prints JSON; commands: init," in str(refused.exception)


def test_a_reader_of_the_schema_may_meet_new_keys() -> None:
    assert 'additionalProperties": false' not in SCHEMA.read_text(encoding="utf-8")


def test_the_page_has_an_example_of_every_kind_or_names_it() -> None:
    text = PAGE.read_text(encoding="utf-8")
    kinds = typing.get_args(documents.Kind)
    assert [kind for kind in kinds if f"### {kind}\n" not in text and f"`{kind}`" not in text] == []
