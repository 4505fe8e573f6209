"""Who may import whom, read from the source so that lazy imports count too."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("hpo", "trainers", "reports", "search_spaces")

ALLOWED = {
    "ray": [
        "hpo/driver/*",
        "reports/benchmarks/*",
    ],
    "optuna": [
        "hpo/spec/configure.py",
        "hpo/driver/*",
        "hpo/ledger/*",
        "hpo/search/*",
        "reports/analysis/importance.py",
        "reports/benchmarks/*",
    ],
    "mlflow": ["hpo/tracking/*"],
    "torch": ["trainers/*", "reports/benchmarks/*"],
    "torchvision": ["trainers/*", "reports/benchmarks/*"],
    "timm": ["trainers/*", "reports/benchmarks/*"],
    "pydantic": ["hpo/*"],
    "hpo": ["hpo/*", "reports/*"],
    "reports": ["reports/*", "hpo/cli/*"],
}
"""Files in which a package may be named; packages that are not listed are free."""

READ_BY_REPORTS = ("hpo.ledger", "hpo.results", "hpo.search", "hpo.spec", "hpo.redact")
"""A report reads records, and calls pure functions over them."""


def modules_imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(path: str, source: str) -> list[str]:
    found = set()
    for module in modules_imported(ast.parse(source)):
        package = module.partition(".")[0]
        if not any(fnmatch(path, pattern) for pattern in ALLOWED.get(package, ["*"])):
            found.add(f"{path} imports {package}")
        # Benchmarks drive the parts themselves.
        inside_report = path.startswith("reports/") and not path.startswith("reports/benchmarks/")
        if inside_report and package == "hpo" and module != "hpo" and not module.startswith(READ_BY_REPORTS):
            found.add(f"{path} imports {module}, which is not for reports")
    return sorted(found)


def test_every_file_keeps_the_import_rules() -> None:
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(files) > 20
    found = [
        line
        for path in files
        for line in violations(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("trainers/x.py", "import hpo"),
        ("trainers/x.py", "from hpo.spec.configure import suggest"),
        ("trainers/x.py", "def f():\n    import ray.tune"),
        ("trainers/augment/x.py", "import pydantic"),
        ("hpo/validation/loader.py", "from optuna import trial"),
        ("hpo/tracker.py", "import mlflow"),
        ("hpo/x.py", "import torch.nn as nn"),
        ("reports/page.py", "from hpo.driver.run import run"),
        ("reports/page.py", "from hpo import driver"),
    ],
)
def test_a_forbidden_import_is_found(path: str, source: str) -> None:
    assert violations(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("trainers/x.py", "import torch, timm"),
        ("hpo/search/gp.py", "import optuna"),
        ("reports/page.py", "from hpo.ledger.records import read"),
        ("reports/page.py", "from hpo.ledger import records"),
        ("reports/benchmarks/search/comparison.py", "from hpo.search.asha import Asha\nimport optuna"),
    ],
)
def test_an_allowed_import_is_not(path: str, source: str) -> None:
    assert violations(path, source) == []


@pytest.mark.parametrize(
    "module", ["hpo", "hpo.cli.app", "hpo.validation.loader", "hpo.spec.study", "trainers.api", "search_spaces"]
)
def test_start_up_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert module.partition(".")[0] in loaded
    assert loaded & {"torch", "timm", "ray", "optuna", "mlflow", "sqlalchemy"} == set()
    assert "pydantic" not in loaded or module in ("hpo.validation.loader", "hpo.spec.study")
