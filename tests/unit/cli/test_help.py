"""What `--help` says: an example for every command that the command line accepts, and whole sentences."""

from __future__ import annotations

import shlex

import pytest
import typer
from typer.testing import CliRunner

from hpo.cli.app import GROUPS, app, command_name

COMMANDS = {command_name(command): examples for group in GROUPS.values() for command, examples in group.items()}


def test_the_help_shows_the_commands_in_groups() -> None:
    """The first words of the lines, in order: a title or a command begins with its name, all else is left out."""
    shown = CliRunner().invoke(app, ["--help"]).stdout
    first = [line.strip("╭│─╮╰╯ \n") for line in shown.splitlines()]
    assert list(GROUPS) == ["Run", "Inspect", "Use the result", "Tools"]
    expected = [word for group, commands in GROUPS.items() for word in (group, *map(command_name, commands))]
    found = [word for line in first for word in expected if line == word or line.startswith(f"{word}  ")]
    assert found == expected


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
