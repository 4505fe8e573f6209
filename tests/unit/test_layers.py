"""The layout is a rule: imports point down, nothing goes round in circles, each library has its place.

Read from the syntax trees: an import inside a function or under `TYPE_CHECKING` is an arrow like any other.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support.import_graph import Import, Module, arrows, circles, floors, imports, read

LAYERS: list[set[str]] = [
    {
        "hpo.errors",
        "hpo.redact",
        "hpo.home",
        "hpo.text",
        "hpo.files",
        "hpo.databases",
        "hpo.sqlite_urls",
        "hpo.clock",
        "hpo.processes",
        "hpo.gpu_sharing",
    },
    {"hpo.spec"},
    {"hpo.ledger", "hpo.validation"},
    {"hpo.search"},
    {"hpo.results"},
    {"hpo.export", "hpo.tracking"},
    {"hpo.driver"},
    {"hpo.api"},
    {"hpo.cli"},
]
"""From the bottom up. A package imports itself and the rows below; on the lowest row the files import each other."""

OWNERS: dict[str, list[str]] = {
    "ray": ["hpo/driver/ray_backend/"],
    "mlflow": ["hpo/tracking/"],
    "tensorboardX": ["hpo/tracking/tensorboard.py"],
    "optuna": ["hpo/ledger/", "hpo/search/", "reports/analysis/importance.py"],
    "ruamel": ["hpo/validation/yaml_reader.py", "hpo/spec/yaml_writer.py"],
    "rich": ["hpo/cli/"],
    "typer": ["hpo/cli/"],
    "pydantic": ["hpo/"],
    "torch": ["trainers/"],
    "torchvision": ["trainers/"],
    "timm": ["trainers/"],
    "PIL": ["trainers/data/decode.py"],
    "tqdm": ["trainers/data/decode.py"],
    "datasets": ["trainers/data/hub.py"],
    "matplotlib": ["reports/drawing/"],
    "plotly": ["reports/drawing/", "reports/page/"],
    "pynvml": ["hpo/driver/gpus/nvml.py"],
    "psutil": ["hpo/driver/ray_backend/"],
    "threadpoolctl": ["hpo/search/"],
    "pandas": ["hpo/results/tables/frames.py", "hpo/api/study.py"],
    "mcp": ["hpo/cli/programs/server.py"],
    "IPython": ["hpo/api/progress.py"],
}
"""Third-party package -> the folders (with a slash) and files that may name it, beside the benchmarks."""

READ_BY_REPORTS = {
    "hpo.ledger.outcome",
    "hpo.ledger.records",
    "hpo.ledger.transfer",
    "hpo.results",
    "hpo.search.distributions",
    "hpo.search.pruning_audit",
    "hpo.search.rungs",
    "hpo.spec",
    "hpo.redact",
    "hpo.text",
    "trainers",
}
"""What a report may read of the other packages: records, and pure functions of them."""

MOST_MODULES = 12

LATE = {"hpo/driver/ray_backend/tuner.py", "hpo/__init__.py"}
"""Files outside of hpo/cli that import hpo inside a function. Ray reads its settings when it is imported, and the
modules that subclass its classes import it. `import hpo` costs nothing, and its names load when they are asked for."""
ABOVE_REPORTS = ("hpo/cli/", "hpo/api/")
"""Who may import reports: the commands, and the Python interface."""


def belongs(module: str, names: Iterable[str]) -> str | None:
    """The one of `names` that is `module` or a package around it; whole names, no prefixes of words."""
    return next((name for name in names if module == name or module.startswith(f"{name}.")), None)


def row(module: str) -> int | None:
    """The layer of a module of hpo; None for `hpo` and `hpo.__main__`, which stand above all."""
    return next((at for at, layer in enumerate(LAYERS) if belongs(module, layer)), None)


def points_up(module: str, imported: str) -> bool:
    """Whether an arrow inside hpo leads to a neighbour on the same row or to a row above."""
    here, there = row(module), row(imported)
    if here is None or there is None:
        return there is None and here is not None
    same = belongs(module, LAYERS[here]) == belongs(imported, LAYERS[here])
    return there > here or (there == here and here > 0 and not same)


def violations(module: Module) -> list[str]:
    """Every rule that a module breaks, one line each."""
    broken = []
    for found in module.imports:
        where = f"{module.path}:{found.line} imports {found.module}"
        package = found.module.partition(".")[0]
        benchmark = module.path.startswith("reports/benchmarks/")
        places = OWNERS.get(package)
        if places is not None and not benchmark and not any(_inside(module.path, place) for place in places):
            broken.append(f"{where}: only {', '.join(places)} may")
        if package == "hpo" and module.path.startswith("hpo/") and points_up(module.name, found.module):
            broken.append(f"{where}, which is not below it")
        may_wait = _inside(module.path, "hpo/cli/") or module.path in LATE
        if package == "hpo" and found.lazy and module.path.startswith("hpo/") and not may_wait:
            broken.append(f"{where} inside a function; only hpo/cli may, for a quick start")
        if module.path.startswith("trainers/") and package in ("hpo", "reports", "ray", "optuna", "mlflow", "pydantic"):
            broken.append(f"{where}: trainers run where only torch and timm are installed")
        report = module.path.startswith("reports/") and not benchmark
        if report and package in ("hpo", "trainers") and not belongs(found.module, READ_BY_REPORTS):
            broken.append(f"{where}, which is not for reports")
        above = any(_inside(module.path, place) for place in (*ABOVE_REPORTS, "reports/"))
        if package == "reports" and not above:
            broken.append(f"{where}: only {' and '.join(ABOVE_REPORTS)} may")
    return broken


def _inside(path: str, place: str) -> bool:
    return path == place or (place.endswith("/") and path.startswith(place))


def test_every_module_keeps_the_rules() -> None:
    modules = read(REPOSITORY)
    assert len(modules) > 150
    assert [line for module in modules.values() for line in violations(module)] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(arrows(read(REPOSITORY))) == []


def test_no_packages_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for name, others in arrows(read(REPOSITORY)).items():
        graph.setdefault(_package(name), set()).update(map(_package, others))
    for name, others in graph.items():
        others.discard(name)
    assert circles(graph) == []


def _package(module: str) -> str:
    return ".".join(module.split(".")[:2])


def test_the_longest_chain_of_imports_is_bounded() -> None:
    assert floors(arrows(read(REPOSITORY, ["hpo"]))) <= 18


def test_no_folder_holds_more_modules_than_a_person_can_oversee() -> None:
    crowded = {}
    for folder in {path.parent for package in ("hpo", "trainers", "reports") for path in _sources(package)}:
        modules = [path for path in folder.glob("*.py") if path.name not in ("__init__.py", "__main__.py")]
        if len(modules) > MOST_MODULES:
            crowded[folder.relative_to(REPOSITORY).as_posix()] = len(modules)
    assert crowded == {}


def _sources(package: str) -> Iterator[Path]:
    return (REPOSITORY / package).rglob("*.py")


def test_every_package_says_what_it_owns_and_what_it_never_does() -> None:
    silent = []
    for path in [*_sources("hpo"), *_sources("trainers"), *_sources("reports")]:
        if path.name == "__init__.py" and len(path.relative_to(REPOSITORY).parts) > 2:
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            if len(text) < 30 or ("Never" not in text and "benchmarks" not in path.parts):
                silent.append(path.relative_to(REPOSITORY).as_posix())
    assert silent == []


def test_packages_of_hpo_hold_nothing_but_a_docstring() -> None:
    for path in _sources("hpo"):
        if path.name == "__init__.py" and path.parent.name not in ("cli", "hpo"):
            assert len(ast.parse(path.read_text(encoding="utf-8")).body) <= 1, path


def module(path: str, source: str) -> Module:
    name = path.removesuffix(".py").replace("/", ".")
    known = ["hpo.ledger.records", "hpo.ledger.writer", "hpo.driver.run", "hpo.spec.study"]
    return Module(name, path, tuple(imports(source, known)))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("trainers/x.py", "import hpo"),
        ("trainers/x.py", "from hpo.spec.study import Spec"),
        ("trainers/augment/x.py", "import pydantic"),
        ("trainers/x.py", "def f():\n    import ray.tune"),
        ("hpo/validation/loader.py", "from optuna import trial"),
        ("hpo/tracking_of_old.py", "import mlflow"),
        ("hpo/driver/x.py", "import ray"),
        ("hpo/x.py", "import torch.nn as nn"),
        ("hpo/ledger/x.py", "from hpo.search.rungs import reached"),
        ("hpo/ledger/x.py", "from hpo.validation import loader"),
        (
            "hpo/ledger/x.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hpo.results.best import pick",
        ),
        ("hpo/export/x.py", "from hpo.tracking.runs import Runs"),
        ("hpo/spec/x.py", "from hpo.ledger import records"),
        ("hpo/driver/x.py", "def f():\n    from hpo.spec.study import Spec"),
        ("hpo/api/x.py", "def f():\n    from hpo.spec.study import Spec"),
        ("hpo/api/x.py", "from hpo.cli import completion"),
        ("hpo/driver/x.py", "from hpo.api import messages"),
        ("hpo/text.py", "from hpo.spec.study import Spec"),
        ("reports/page/x.py", "from hpo.ledger.writer import Ledger"),
        ("reports/page/x.py", "from hpo.ledger import writer"),
        ("reports/page/x.py", "from hpo.driver.run import run"),
        ("reports/page/x.py", "from hpo.ledger.records_of_old import read"),
        ("hpo/results/x.py", "import reports.page.render"),
    ],
)
def test_a_forbidden_import_is_found(path: str, source: str) -> None:
    assert violations(module(path, source))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("trainers/x.py", "import torch, timm"),
        ("hpo/search/gp.py", "import optuna"),
        ("hpo/search/gp.py", "from hpo.ledger import records"),
        ("hpo/cli/x.py", "def f():\n    from hpo.driver.run import run"),
        ("hpo/__init__.py", "def f():\n    from hpo.driver.run import run"),
        ("hpo/api/x.py", "from reports.page import render"),
        ("hpo/text.py", "from hpo.redact import redact"),
        ("reports/page/x.py", "from hpo.ledger.records import StudyRecord"),
        ("reports/page/x.py", "from hpo.ledger import records"),
        ("reports/benchmarks/search/x.py", "from hpo.search.asha import AshaPruner\nimport optuna"),
    ],
)
def test_an_allowed_import_is_not(path: str, source: str) -> None:
    assert violations(module(path, source)) == []


def test_circles_and_floors_are_counted_as_one_would_by_hand() -> None:
    graph = {"a": ["b", "d"], "b": ["c"], "c": ["b"], "d": ["e"], "e": ["f"], "f": []}
    assert circles(graph) == [["b", "c"]]
    assert floors(graph) == 4
    lazy = Import("x.y", 2, lazy=True, type_only=False)
    assert list(imports("def f():\n    from x import y", ["x.y"])) == [lazy]


LIGHT = ["hpo", "hpo.cli.app", "hpo.cli.begin.version", "trainers.api", "search_spaces"]
NO_SERVICES = [
    "hpo.spec.study",
    "hpo.validation.loader",
    *(f"hpo.cli.{name}" for name in ("study", "results", "tools", "trials")),
]


@pytest.mark.parametrize("name", [*LIGHT, *NO_SERVICES])
def test_start_up_loads_nothing_heavy(name: str) -> None:
    code = f"import sys, {name}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    loaded = {module.partition(".")[0] for module in done.stdout.split()}
    assert name.partition(".")[0] in loaded
    assert loaded & {"torch", "timm", "ray", "optuna", "mlflow", "sqlalchemy", "pandas"} == set()
    assert "pydantic" not in loaded or name in NO_SERVICES


@pytest.mark.parametrize("name", ["hpo.driver.run", "hpo.driver.confirm"])
def test_ray_is_not_imported_before_its_settings_are_made(name: str) -> None:
    """Ray reads the login guard of its ports and other settings when it is imported; `ray_session` sets them."""
    code = f"import sys, {name}; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
