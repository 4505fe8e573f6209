"""Which of a driver's files a cluster gets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpo.driver.ray_backend import shipping
from hpo.driver.ray_backend.shipping import local_code, runtime_env


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a trainer, what it imports, and much else."""
    files = {
        "mine.py": "import json, torch\nfrom helpers import curves\nimport trainers.api",
        "helpers.py": "import package.part",
        "package/__init__.py": "",
        "package/part.py": "from . import other",
        "package/other.py": "def f():\n    import late",
        "package/settings.json": "{}",
        "package/weights.pt": "w" * (shipping.LARGEST_FILE + 1),
        "package/.git/config": "",
        "late.py": "this is not Python",
        "unrelated.py": "",
        "data/images.bin": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_trainer_and_what_it_imports_is_shipped_and_nothing_else(folder: Path) -> None:
    names = {path.name for path in local_code("mine", [str(folder)])}
    assert names == {"mine.py", "helpers.py", "package", "late.py"}
    assert local_code("package.part", [str(folder)]) == [folder / "package", folder / "late.py"]


def test_a_trainer_beside_the_specification_is_shipped_even_on_one_machine(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        runtime_env("mine:train", str(folder), cluster=False) == {}
    )  # workers find what lies in the working directory
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert runtime_env("mine:train", cluster=False) == {}
    for cluster in (True, False):
        shipped = runtime_env("mine:train", str(folder), cluster=cluster)["py_modules"]
        assert {Path(path).name for path in shipped} == {"mine.py", "helpers.py", "package", "late.py"}
    assert runtime_env("json:load", str(folder), cluster=False) == {}


def test_large_files_stay_here(folder: Path) -> None:
    made = runtime_env("package.part:train")
    assert made["py_modules"] == [str(folder / "package"), str(folder / "late.py")]
    assert made["excludes"] == ["/weights.pt"]


def test_a_folder_of_data_is_no_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "MOST_FILES", 2)
    (folder / "mine.py").write_text("import package, helpers")
    assert {path.name for path in local_code("mine", [str(folder)])} == {"mine.py", "helpers.py"}


@pytest.mark.parametrize("trainer", ["trainers.finetune:train", "timm.models:train", "json:load", "nowhere:train"])
def test_nothing_is_shipped_of_what_is_installed_or_missing(trainer: str) -> None:
    assert runtime_env(trainer) == {}


def test_who_submits_a_job_with_modules_has_chosen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for submitted, shipped in (({"working_dir": "gcs://a"}, True), ({"py_modules": ["gcs://b"]}, False)):
        monkeypatch.setenv(shipping.SUBMITTED, json.dumps({"runtime_env": submitted}))
        assert bool(runtime_env("mine:train")) == shipped
