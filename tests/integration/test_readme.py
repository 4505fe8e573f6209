"""Every command of the README is run, in its order, in one folder, as a person does who follows it."""

from __future__ import annotations

import shlex
import signal
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support.drivers import Driver
from tests.support.markdown import blocks, inline
from tests.support.training import tiny_study

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

README = REPOSITORY / "README.md"

STANDS_FOR = {
    "cifar10": tiny_study("cifar10"),
    "paper_cifar10": """\
data: {name: shapes, train_limit: 64, validation_limit: 40}
model: {name: test_efficientnet, pretrained: false}
train: {epochs: 1, batch_size: 16, progressive: {stages: 1, size: {end: 32}}}
""",
}
"""What a shipped name is taken for here: a file of that name goes before it. The built-in drawings instead of CIFAR,
whose download cannot be had everywhere, and a few steps instead of days. The commands stay as they are."""
PLACEHOLDERS = {"SPEC": "cifar10", "NAME": "cifar10"}
ENDED_BY_CTRL_C = {"hpo ui": "Ctrl-C ends it."}
"""Commands that serve until they are interrupted, and what they say once they do."""
ADAPTED = {"hpo ui": "hpo ui --port 0"}
"""Port 5000 may be taken on this machine."""
NOT_RUN = {
    "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/hpo run quickstart": ".ci/run does, as it stands",
    "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' "
    "&& .venv/bin/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder": "this is it",
    "hpo --install-completion": "changes the shell's own files; test_completion.py drives what it installs",
}


def typed() -> list[str]:
    """The commands of the README: the blocks line by line, then those in the text that are not the mere beginning of
    another."""
    lines = [line.partition("  #")[0].strip() for block in blocks(README, "sh") for line in block.splitlines()]
    named = [code for code in inline(README) if code.startswith("hpo ")]
    found = list(dict.fromkeys(filter(None, [*lines, *named])))
    return [command for command in found if not any(other.startswith(f"{command} ") for other in found)]


def test_every_command_of_the_readme(tmp_path: Path) -> None:
    """None may fail, and none may be left out without a reason."""
    for name, text in STANDS_FOR.items():
        (tmp_path / name).write_text(text)
    (trainer,) = blocks(README, "python")
    (tmp_path / "my_trainer.py").write_text(trainer)
    (study,) = [text for text in blocks(README, "yaml") if "my_trainer" in text]
    (tmp_path / "curve.yaml").write_text(study)

    commands = typed()
    assert set(NOT_RUN) | set(ADAPTED) <= set(commands), "no longer in the README"
    for command in commands:
        if command in NOT_RUN:
            continue
        follow(command, tmp_path)
    assert (tmp_path / "best.yaml").is_file()


def follow(command: str, folder: Path) -> None:
    """Run one command in `folder` and insist on its success."""
    variables, words = {}, shlex.split(ADAPTED.get(command, command))
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    assert words[0] == "hpo", f"{command} is neither run here nor listed with a reason"
    if "PYTHONPATH" in variables:  # beside this checkout, which is not installed everywhere
        variables["PYTHONPATH"] = f"{folder}:{REPOSITORY}"
    arguments = [PLACEHOLDERS.get(word, word) for word in words[1:]]
    driver = Driver.start(*arguments, home=folder / "runs", cwd=folder, **variables)
    if command in ENDED_BY_CTRL_C:
        driver.until(ENDED_BY_CTRL_C[command])
        driver.signal(signal.SIGINT)
    assert driver.wait() == 0, f"{command}\n{driver.text}"
    assert "Traceback" not in driver.text, f"{command}\n{driver.text}"
