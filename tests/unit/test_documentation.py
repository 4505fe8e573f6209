"""The pages name only links, commands, options, keys, modules and files that exist, and what they show works."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from hpo.cli.app import app
from hpo.spec.study import Spec
from hpo.validation.loader import parse_spec
from hpo.validation.settings import all_paths
from tests.conftest import REPOSITORY
from tests.support.markdown import blocks, inline
from trainers.api import Context, Trainer
from trainers.checkpoint import DirectoryStore

PAGES = sorted([REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *(REPOSITORY / "reports").rglob("*.md")])
DOCS = REPOSITORY / "reports" / "docs"
COMMANDS: Any = getattr(typer.main.get_command(app), "commands")  # noqa: B009 - a group has them
FILES = (".py", ".md", ".yaml", ".json", ".onnx", ".pt2", ".db", ".url")
PACKAGES = ("hpo", "trainers", "reports", "search_spaces", "tests")


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def name(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), target
        assert not anchor or anchor in slugs(there), target


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Every `hpo COMMAND` of a page with the words that follow."""
    shell = "\n".join(blocks(page, "sh", "bash", "yaml"))
    lines = [line.partition(" #")[0] for line in shell.splitlines()] + inline(page)
    for line in lines:
        for command, rest in re.findall(r"(?:^|[\s;&|/])hpo ([a-z-]+)([^;&|\n]*)", line):
            yield command, rest.split()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_options_exist(page: Path) -> None:
    for command, words in commands(page):
        if command.startswith("--"):
            continue
        assert command in COMMANDS, command
        options = {option for parameter in COMMANDS[command].params for option in (*parameter.opts, "--help", "-h")}
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert given <= options, f"hpo {command} {' '.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_keys_modules_and_files_exist(page: Path) -> None:
    sections = {path.partition(".")[0] for path in all_paths(Spec)} - {"extra", "space"}
    for code in inline(page):
        key = re.match(r"([a-z_]+(?:\.[a-z_]+)+)(?=[:=]|$)", code)
        if key and key[1].partition(".")[0] in sections and not key[1].endswith(FILES):
            assert key[1] in all_paths(Spec), code
        if re.fullmatch(rf"({'|'.join(PACKAGES)})(\.\w+)+", code) and not code.endswith(FILES):
            assert resolve(code), code
        if re.fullmatch(rf"({'|'.join(PACKAGES)})/[\w./-]*", code):
            assert (REPOSITORY / code).exists(), code
        if module := re.search(r"python3? -m ([a-z_.]+)", code):
            assert importlib.util.find_spec(module[1]), code


def resolve(dotted: str) -> bool:
    """Whether `package.module.name` is there."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            value = getattr(value, part, None)
        return value is not None
    return False


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in DOCS.glob("*.md") if f"(reports/docs/{page.name})" not in readme] == []


@pytest.mark.parametrize("page", [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))], ids=name)
def test_studies_in_pages_are_valid(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "somewhere:6379")  # a page's machine need not be this one
    for text in blocks(page, "yaml"):
        if "apiVersion" not in text:
            assert parse_spec(text, page.name).space


def test_kubernetes_objects_fit_together() -> None:
    (text,) = blocks(DOCS / "kuberay.md", "yaml")
    job, settings = YAML(typ="safe").load_all(text)
    assert (job["kind"], settings["kind"]) == ("RayJob", "ConfigMap")
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["study"]["configMap"]["name"] == settings["metadata"]["name"]
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
            assert {"HPO_HOME", "LEDGER"} <= {variable["name"] for variable in container["env"]}
    subprocess.run(["bash", "-n"], input=settings["data"]["entrypoint.sh"], text=True, check=True)


# ------------------------------------------------------------------------------------------------ SLURM

HPO = """\
#!/bin/bash
echo "$*" >> "$HPO_HOME/calls"
[ "$1" = status ] && { [ -e "$HPO_HOME/study" ]; exit; }
trap 'sleep 0.2; exit 143' TERM
touch "$HPO_HOME/study"
[ -e "$HPO_HOME/ends" ] && exit 0
while :; do sleep 0.05; done
"""


def test_the_batch_script_passes_sigterm_on_and_requeues(tmp_path: Path) -> None:
    """Bash runs the script with stand-ins for `hpo` and `scontrol`: SIGTERM, requeue, resume, end."""
    script = tmp_path / "job.sh"
    script.write_text(blocks(DOCS / "slurm.md", "bash")[0])
    home, programs = tmp_path / "hpo", tmp_path / "bin"
    home.mkdir()
    programs.mkdir()
    for program, text in (("hpo", HPO), ("scontrol", f'#!/bin/bash\necho "$*" >> {home}/requeued\n')):
        (programs / program).write_text(text)
        (programs / program).chmod(0o755)
    environment = os.environ | {
        "HOME": str(tmp_path),
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
    }

    job = subprocess.Popen(["bash", str(script)], env=environment)
    deadline = time.monotonic() + 60
    while not (home / "study").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)  # until the script knows whom to pass it to
    job.send_signal(signal.SIGTERM)  # to the script alone, as SLURM's B: does
    assert job.wait(60) == 143
    assert (home / "requeued").read_text() == "requeue 7\n"

    (home / "ends").touch()
    subprocess.run(["bash", str(script)], env=environment, check=True, timeout=60)
    calls = (home / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["status", "run", "status", "resume"]
    assert (home / "requeued").read_text() == "requeue 7\n"


def test_a_job_on_several_nodes_ends_where_ray_does_not_come_up(tmp_path: Path) -> None:
    """It would wait for its nodes until the time limit."""
    lines = blocks(DOCS / "slurm.md", "bash")[1]
    for program, text in (("srun", "exit 1"), ("scontrol", "echo node1")):
        (tmp_path / program).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / program).chmod(0o755)
    variables = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "8", "HOME": str(tmp_path)}
    environment = os.environ | variables | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    assert subprocess.run(["bash", "-c", lines], env=environment, timeout=60).returncode == 1


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_shell_blocks_are_shell(page: Path) -> None:
    for text in blocks(page, "sh", "bash"):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


# ---------------------------------------------------------------------------------------------- trainers


@pytest.mark.parametrize("page", [DOCS / "trainer.md"], ids=name)
def test_trainers_in_pages_train_and_resume(page: Path, tmp_path: Path) -> None:
    """The trainer runs the study of its page. Interrupted after three epochs, it continues to the same result."""
    (code,) = [text for text in blocks(page, "python") if "def train(" in text]
    module = ModuleType("my_trainer")
    exec(compile(code, str(page), "exec"), module.__dict__)
    train: Trainer = module.train
    (study,) = [text for text in blocks(page, "yaml") if "my_trainer:train" in text]
    spec = parse_spec(study, page.name)
    config = spec.base()

    def context(folder: str) -> Context:
        store = DirectoryStore(str(tmp_path / folder))
        return Context(seed=0, checkpoints=store, cache_dir=str(tmp_path / "cache"))

    whole = list(train(config, context("whole")))
    assert [metrics.epoch for metrics in whole] == list(range(1, config.train.epochs + 1))
    assert whole[-1].val_accuracy > whole[0].val_accuracy
    list(islice(train(config, context("cut")), 3))
    again = list(train(config, context("cut")))
    assert again == whole[2:]
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
