"""What a user installs."""

from __future__ import annotations

from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from tests.conftest import REPOSITORY


def test_the_wheel_holds_what_a_user_runs_and_no_results() -> None:
    builder = WheelBuilder(str(REPOSITORY))
    paths = {file.distribution_path: Path(file.path) for file in builder.recurse_included_files()}
    for needed in (
        "hpo/cli/app.py",
        "hpo/py.typed",
        "trainers/py.typed",
        "trainers/finetune.py",
        "search_spaces/quickstart.yaml",
        "search_spaces/schema.json",
        "reports/page/templates/report.html",
        "reports/benchmarks/search/comparison.py",
    ):
        assert needed in paths
    results = [path for path in paths if path.startswith("reports/benchmarks/") and not path.endswith(".py")]
    assert results == []
    assert [path for path in paths if path.startswith(("reports/examples/", "tests/"))] == []
    assert [path for path in paths if path.endswith(".png")] == []
    assert sum(file.stat().st_size for file in paths.values()) < 2_500_000
