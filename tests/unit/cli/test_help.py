"""What `--help` says: an example for every command that the command line accepts, and whole sentences."""

from __future__ import annotations

import shlex

import pytest
import typer
from typer.testing import CliRunner

from hpo.cli.app import EXAMPLES, app

COMMANDS = {command.__name__: examples for command, examples in EXAMPLES.items()}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_ends_with_its_examples(name: str) -> None:
    shown = CliRunner().invoke(app, [name, "--help"]).stdout
    lines = [line.strip() for line in shown.partition("Examples:")[2].splitlines() if line.strip()]
    assert tuple(lines) == COMMANDS[name]


@pytest.mark.parametrize("example", [example for examples in COMMANDS.values() for example in examples])
def test_the_command_line_accepts_every_example(example: str) -> None:
    program, name, *words = shlex.split(example.partition(" > ")[0])
    assert program == "hpo"
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    command.make_context(name, words)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_commands_and_options_is_whole_sentences(name: str) -> None:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    texts = [command.help, *(parameter.help for parameter in command.params)]
    for text in texts:
        assert text[0].isupper(), text
        assert text.rstrip().endswith("."), text
