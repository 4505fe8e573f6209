"""A command that a text tells a person to type is spelled by `hpo.home.command`, so that none forgets `--home`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from hpo.cli.app import app

ROOT = Path(__file__).parents[2]
COMMANDS = "|".join(sorted(get_command(app).commands))  # type: ignore[attr-defined]
WITH_WORDS = re.compile(rf"\bhpo (?:(?:{COMMANDS})(?: |\0)|\0)")
"""A command with arguments. A value inside of a text stands as a zero byte."""
TO_TYPE = re.compile(rf"(?:[Tt]ype|[Ww]ith:?|[Ss]ee:?|again by) `?hpo (?:{COMMANDS})\b")
"""A command without arguments that a person is to type. Every other `hpo NAME` only names the command."""
HELP = {"help", "epilog", "short_help"}
"""Keywords of typer: who asks for help has named no home folder yet."""
ALLOWED = {
    "hpo/home.py": "it has the one function",
    "hpo/cli/app.py": "the examples of the help",
    "hpo/driver/ray_backend/cluster.py": "`hpo doctor` looks at the machine, which is the same for every home folder",
    "hpo/cli/programs/described/commands.py": "the titles of schemas name the commands that print them",
    "hpo/validation/schema.py": "the documentation of the specification",
    "reports/benchmarks": "documentation, whose commands were typed in the repository",
}
"""Files and folders whose texts may name commands themselves, with the reason."""


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The line and the text of each string; values inside are zero bytes. Docstrings and help texts are left out."""
    if isinstance(tree, ast.Expr) and isinstance(tree.value, ast.Constant):
        return
    if isinstance(tree, ast.keyword) and tree.arg in HELP:
        return
    if isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        yield tree.lineno, tree.value
    elif isinstance(tree, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in tree.values)
        yield tree.lineno, "".join(map(str, parts))
        tree = ast.Module([ast.Expr(part.value) for part in tree.values if isinstance(part, ast.FormattedValue)], [])
    for child in () if isinstance(tree, ast.Constant) else ast.iter_child_nodes(tree):
        yield from texts(child)


def written_out(source: str) -> list[tuple[int, str]]:
    """The commands to type that the texts of a module spell themselves."""
    return [(line, text) for line, text in texts(ast.parse(source)) if WITH_WORDS.search(text) or TO_TYPE.search(text)]


@pytest.mark.parametrize(
    "expression",
    [
        'f"see `hpo status {name}`"',
        'f"hpo ui{option}"',
        'f"continue with: hpo {words}"',
        '"hpo retrain best.yaml"',
        '"Type `hpo confirm` again"',
        "print(f\"{f('hpo doctor ')}\")",
        '"study {name}: `hpo export {name} --trial N`"',
    ],
)
def test_a_command_that_is_written_out_is_found(expression: str) -> None:
    assert written_out(f"x = {expression}")


def test_the_name_of_a_command_is_no_command_to_type() -> None:
    assert not written_out(
        '"""Docstring: hpo run x."""\nx = "a model that `hpo retrain` wrote"\ny(help="hpo status NAME")'
    )


def test_every_command_to_type_is_spelled_by_the_one_function_that_names_the_home_folder() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for folder in ("hpo", "reports", "trainers")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not any(path.is_relative_to(ROOT / allowed) for allowed in ALLOWED)
        for line, text in written_out(path.read_text(encoding="utf-8"))
    ]
    assert not found, "make these by hpo.home.Home.command:\n" + "\n".join(found)
