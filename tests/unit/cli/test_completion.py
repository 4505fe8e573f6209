"""Completion through bash itself: the script that `hpo --show-completion bash` prints, and what Tab would offer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PRESS_TAB = """\
eval "$(_HPO_COMPLETE=source_bash hpo)"
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_hpo_completion hpo
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH on which `hpo` is this checkout's."""
    script = tmp_path / "bin" / "hpo"
    script.parent.mkdir()
    code = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); from hpo.cli import main; main()"
    script.write_text(f"#!{sys.executable}\n{code}\n")
    script.chmod(0o755)
    return f"{script.parent}{os.pathsep}{os.environ['PATH']}"


def offered(words: str, path: str, folder: Path, **variables: str) -> list[str]:
    """What bash has in COMPREPLY after Tab at the end of `words`, where they end in a blank at a new word."""
    environment = os.environ | {"PATH": path, "HPO_HOME": str(folder / "home")} | variables
    run = subprocess.run(
        ["bash", "--norc", "-c", PRESS_TAB, "bash", *words.split(" ")],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env=environment,
    )
    assert run.stderr == ""
    return run.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("hpo resu", ["resume"]),
        ("hpo run quick", ["quickstart"]),
        ("hpo run cifar10", ["cifar10", "cifar100", "cifar100_cpu", "cifar10_cpu"]),
        ("hpo run m", ["models_cpu", "mine.yaml"]),
        ("hpo run quickstart train.progressive.size.s", ["train.progressive.size.start="]),
        ("hpo validate quickstart budget.trials=3 train.mom", ["train.momentum="]),
        ("hpo run quickstart space.train.progressive.st", ["space.train.progressive.stages="]),
        ("hpo retrain paper", ["paper_cifar10"]),
        ("hpo retrain fi", ["first"]),
        ("hpo retrain paper_cifar10 train.mom", ["train.momentum="]),
        ("hpo retrain paper_cifar10 asha.", []),
        ("hpo resume ", ["first", "second"]),
        ("hpo status f", ["first"]),
        ("hpo report first s", ["second"]),
        ("hpo export --home elsewhere ", ["third"]),
    ],
)
def test_bash_offers_the_words_that_fit(words: str, expected: list[str], path: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").touch()
    for folder in ("home/studies/first", "home/studies/second", "elsewhere/studies/third"):
        (tmp_path / folder).mkdir(parents=True)
    assert offered(words, path, tmp_path) == expected


def test_completion_without_a_study_offers_nothing(path: str, tmp_path: Path) -> None:
    assert offered("hpo resume ", path, tmp_path) == []


def test_shells_other_than_bash_get_values_too(path: str, tmp_path: Path) -> None:
    """bash takes `=` for the end of a word, so it completes keys alone."""
    variables = {"_HPO_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "hpo run quickstart asha.resource="}
    run = subprocess.run(
        ["hpo"], capture_output=True, text=True, check=True, env=os.environ | {"PATH": path} | variables
    )
    assert '"asha.resource=compute":"What rungs count' in run.stdout


def test_completing_imports_nothing_heavy() -> None:
    code = (
        "import os, sys; sys.argv = ['hpo']\n"
        "os.environ.update(_HPO_COMPLETE='complete_bash', COMP_WORDS='hpo run quickstart train.l', COMP_CWORD='3')\n"
        "from hpo.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code in (0, None)\n"
        "heavy = {'torch', 'ray', 'optuna', 'mlflow', 'numpy', 'ruamel', 'rich'}\n"
        "heavy |= {'hpo.spec.study', 'hpo.validation.loader'}\n"
        "print(*heavy & set(sys.modules), 'end')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, capture_output=True, text=True)
    assert run.stdout.split() == ["train.lr=", "train.layer_decay=", "train.label_smoothing=", "end"]
