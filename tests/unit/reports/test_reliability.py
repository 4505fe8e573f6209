"""The tables of reports/docs/reliability.md name tests that exist, and miss no file of injected faults."""

from __future__ import annotations

import ast
import re

import pytest

from tests.conftest import REPOSITORY

TABLE = (REPOSITORY / "reports" / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TABLE)))


def test_every_failure_in_the_tables_has_a_test_and_a_result() -> None:
    assert len(NAMED) > 40
    rows = [line for line in TABLE.splitlines() if line.startswith("| ") and "`tests/" in line]
    for row in rows:
        assert re.fullmatch(r"\| [^|]+ \| `tests/[^|]+` \| (passed|open) \|", row), row


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_every_test_in_the_tables_exists(file: str, name: str) -> None:
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_file_of_injected_faults_is_in_the_tables() -> None:
    files = {
        f"tests/integration/{path.name}" for path in (REPOSITORY / "tests" / "integration").glob("test_faults_*.py")
    }
    assert files <= {file for file, _ in NAMED}
