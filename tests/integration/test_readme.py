"""Every command of the pages for newcomers runs, in its order, in one folder, as for a person who follows the page."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.support.drivers import Driver
from tests.support.image_folders import write_images
from tests.support.markdown import blocks, inline
from tests.support.training import tiny_study
from trainers.data import shapes

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

DOCS = REPOSITORY / "reports" / "docs"
IMAGES = DOCS / "your_images.md"
README, FIRST_STUDY, TRAINER = REPOSITORY / "README.md", DOCS / "first_study.md", DOCS / "trainer.md"

STANDS_FOR = {
    "cifar10": tiny_study("cifar10"),
    "my_study.yaml": tiny_study("my_study"),
    "paper_cifar10": """\
data: {name: shapes, train_limit: 64, validation_limit: 40}
model: {name: test_efficientnet, pretrained: false}
train: {epochs: 1, batch_size: 16, progressive: {stages: 1, size: {end: 32}}}
""",
}
"""Files that stand for studies too large for a test: generated shapes instead of CIFAR, a few steps instead of days.
A file of a shipped study's name takes precedence over it, so the commands stay as they are."""
PLACEHOLDERS = {"SPEC": "cifar10", "NAME": "my_study"}
ENDED_BY_CTRL_C = {"hpo ui": "Stop the server with Ctrl-C."}
"""Commands that serve until they are interrupted, and the text that they print when they are ready."""
ADAPTED = {"hpo ui": "hpo ui --port 0"}
"""Port 5000 may be taken on this machine."""
NOT_RUN = {
    "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/hpo run quickstart": ".ci/run runs it",
    "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' "
    "&& .venv/bin/python -m pytest -q -n 4 --dist loadfile --no-loadscope-reorder": "the suite runs this test",
    "hpo set cifar10 budget.trials=80": "asks a driver that runs; tests/integration/test_steering.py has one",
    "hpo --install-completion": "changes the shell's own files; test_completion.py drives what it installs",
}


def typed(page: Path) -> list[str]:
    """The commands of a page: the lines of its blocks, then commands in its text that no other command begins with."""
    lines = [line.partition("  #")[0].strip() for block in blocks(page, "sh") for line in block.splitlines()]
    named = [code for code in inline(page) if code.startswith("hpo ")]
    new = [command for command in named if not any(other.startswith(f"{command} ") for other in [*lines, *named])]
    return list(dict.fromkeys(filter(None, [*lines, *new])))


def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    """None may fail, and none may be left out without a reason."""
    prepare(tmp_path)
    commands = typed(README)
    assert set(NOT_RUN) | set(ADAPTED) <= {*commands, *typed(FIRST_STUDY)}, "no longer in the pages"
    for command in commands:
        if command not in NOT_RUN:
            follow(command, tmp_path)
    assert (tmp_path / "best.yaml").is_file()


def test_every_command_of_the_first_study_runs(tmp_path: Path) -> None:
    prepare(tmp_path)
    for command in typed(FIRST_STUDY):
        if command not in NOT_RUN:
            follow(command, tmp_path)
    assert (tmp_path / "runs" / "studies" / "my_study" / "best.yaml").is_file()


def test_every_command_of_the_page_on_trainers_runs(tmp_path: Path) -> None:
    (trainer,), (study,) = blocks(TRAINER, "python"), blocks(TRAINER, "yaml")
    (tmp_path / "my_trainer.py").write_text(trainer)
    (tmp_path / "softmax.yaml").write_text(study)
    commands = typed(TRAINER)
    assert "PYTHONPATH=. hpo run softmax.yaml" in commands
    for command in commands:
        if command not in NOT_RUN:
            follow(command, tmp_path)


def prepare(folder: Path) -> None:
    """Write the small studies under the names that the commands use."""
    for name, text in STANDS_FOR.items():
        (folder / name).write_text(text)


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


@pytest.mark.parametrize("source", ["shapes", "cifar10"])
def test_every_command_of_the_page_on_images_runs(source: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """On a folder of generated shapes, and on one of CIFAR-10's test images. What `hpo init` writes is too large."""
    images, labels, classes = shapes_or_cifar(source, request)
    for part, chosen in (("train", slice(0, 120)), ("val", slice(120, 180)), ("test", slice(180, 240))):
        write_images(tmp_path / "flowers" / part, images[chosen], labels[chosen], classes)
    for command in typed(IMAGES):
        follow(command, tmp_path)
        if command.startswith("hpo init"):
            (tmp_path / "flowers.yaml").write_text(
                tiny_study("flowers").replace("{name: shapes, ", "{name: folder, root: flowers, cache_size: 32, ")
            )
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["label_names"] == sorted(classes)
    (retrained,) = (tmp_path / "runs" / "retrained").iterdir()
    metrics = json.loads((retrained / "metrics.json").read_text())
    assert (metrics["train_images"], metrics["test_images"]) == (104, 60)
    (program,) = blocks(IMAGES, "python")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("10 [")


def shapes_or_cifar(source: str, request: pytest.FixtureRequest) -> tuple[Any, Any, tuple[str, ...]]:
    """240 images, uint8 (N, 3, 32, 32), their labels and the names of the ten classes."""
    if source == "shapes":
        return shapes.draw("test")[0][:240], shapes.draw("test")[1][:240], shapes.CLASSES
    from torchvision.datasets import CIFAR10

    test = CIFAR10(str(request.getfixturevalue("cifar_root")), train=False)
    targets = np.array(test.targets)
    first = np.concatenate([np.flatnonzero(targets == label)[:24] for label in range(10)]).reshape(10, 24).T.ravel()
    return test.data[first].transpose(0, 3, 1, 2), targets[first], tuple(test.classes)
