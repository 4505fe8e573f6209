"""The commands of the page on TensorBoard and Optuna Dashboard show the study of that page."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from hpo.home import Home
from tests.browser.simulation import simulated_study
from tests.browser.watched import record, served
from tests.conftest import REPOSITORY
from tests.support.markdown import blocks

PAGE = REPOSITORY / "reports" / "docs" / "dashboards.md"


def answer(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=60) as reply:
        return json.load(reply)


@pytest.mark.parametrize("block", blocks(PAGE, "sh"))
def test_the_commands_of_the_page_show_its_study(tmp_path: Path, block: str) -> None:
    record(simulated_study("boards", trials=4, epochs=4), Home.at(tmp_path / "runs").create())
    extras = (REPOSITORY / "pyproject.toml").read_text()
    for line in block.splitlines():
        program, *arguments = shlex.split(line)
        if program == "pip":
            extra = arguments[1].removeprefix("hpo-efficientnetv2[").removesuffix("]")
            assert f"\n{extra} = [" in extras
        elif program == "python":
            subprocess.run([sys.executable, *arguments], cwd=tmp_path, check=True, timeout=60)
        else:
            pytest.importorskip(program.replace("-", "_"))
            with served(program, *arguments, folder=tmp_path) as address:
                assert shown(program, address)


def shown(program: str, address: str) -> bool:
    """Whether the program has read the study."""
    if program == "tensorboard":
        return {f"trial-{number:05d}" for number in range(4)} <= set(answer(f"{address}/data/runs"))
    assert program == "optuna-dashboard", f"no test knows what {program} shows"
    (study,) = answer(f"{address}/api/studies")["study_summaries"]
    return bool(study["study_name"] == "boards")
