"""The YAML writer needs no other module of this tool."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import REPOSITORY


def test_yaml_is_written_with_the_same_quotes_in_a_process_that_never_reads_any() -> None:
    """`hpo doctor` compares the YAML files in MLflow, character by character."""
    code = (
        "from hpo.spec.yaml_writer import dump; print(dump({'version': '3.11.7', 'path': '/a', 'word': 'a b'}), end='')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == 'version: "3.11.7"\npath: "/a"\nword: a b\n'
