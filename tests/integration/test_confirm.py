"""The way from a study to a configuration one can trust: run, confirm, killed half-way, confirm again, export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient

from hpo.home import Home
from hpo.ledger.reader import load_study, study_names
from hpo.ledger.records import StudyRecord
from hpo.ledger.storage import open_storage
from hpo.results.confirmation import confirmation
from hpo.validation.loader import load_training
from tests.conftest import synthetic_spec
from tests.support.drivers import Driver, cluster

pytestmark = pytest.mark.ray

TOP, SEEDS = 2, 3


def record(home: Home) -> StudyRecord:
    """The study as any other process sees it."""
    return load_study(open_storage(home.ledger_url), "search")


def done(driver: Driver, code: int = 0) -> str:
    """What a command has written, once it has ended as it should."""
    assert driver.wait() == code, driver.text
    assert "Traceback" not in driver.text
    return driver.text


def test_a_killed_confirmation_goes_on_and_its_choice_is_exported(home: Home, tmp_path: Path) -> None:
    """Nothing is trained twice, the search stays as it was, and MLflow has each repeat once."""
    spec = synthetic_spec(
        "search",
        extra={"seconds": 0.05, "light": True, "noise": 0.02, "journal": str(tmp_path)},
        enqueue=[{"extra.quality": 0.5}, {"extra.quality": 0.6}, {"extra.quality": 0.605}],
        budget={"trials": 4},
        concurrency=2,
    )
    (tmp_path / "search.yaml").write_text(spec.to_yaml())
    with cluster() as ray:

        def hpo(*arguments: object) -> Driver:
            return Driver.start(*arguments, home=home.path, **ray)

        done(hpo("run", tmp_path / "search.yaml"))
        before = record(home)
        assert load_training(str(home.incumbent("search"))).provenance.fidelity == "full"
        assert "at least 2 seeds" in done(hpo("confirm", "search", "--seeds", 1), 2)

        first = hpo("confirm", "search", "--top", TOP, "--seeds", SEEDS)
        first.until("complete: trained", count=1)
        said = done(hpo("stop", "search"))
        assert said.strip().splitlines()[-1] == "Continue with: hpo confirm search, and the same --top and --seeds"
        assert done(first, 130).strip().splitlines()[-1] == "Continue with: hpo confirm search --top 2 --seeds 3"
        second = hpo("confirm", "search", "--top", TOP, "--seeds", SEEDS)
        second.until("complete: trained", count=1)
        refused = hpo("confirm", "search")
        assert f"is being run by process {second.pid}" in done(refused, 2)
        second.kill()
        cut = record(home)
        ended = {trial.number for trial in cut.repeats if trial.complete}
        assert 2 <= len(ended) < 9
        assert confirmation(cut).chosen is None

        text = done(hpo("confirm", "search", "--top", TOP, "--seeds", SEEDS))
        assert "Confirmed: trial" in text
        text = done(hpo("confirm", "search", "--top", 9, "--seeds", SEEDS))
        assert "different complete configurations, not 9" in text

        exported = done(hpo("export", "search", "-o", "-"))
        searched = done(hpo("export", "search", "--search-best", "-o", "-"))
        status = json.loads(done(hpo("status", "search", "--json")))

    after = record(home)
    found = confirmation(after)
    assert (after.trials, after.spec, after.sessions) == (before.trials, before.spec, before.sessions)
    assert study_names(open_storage(home.ledger_url)) == ["search"]
    assert {trial.status for trial in after.repeats} == {"complete"}
    pairs = [(trial.repeat.trial, trial.repeat.index) for trial in after.repeats]
    assert len(pairs) == len(set(pairs)) == found.planned
    for index in range(SEEDS):  # the same seeds for all, and none of the search's
        (seed,) = {trial.seed for trial in after.repeats if trial.repeat.index == index}
        assert seed not in {trial.seed for trial in after.trials}
    assert {one.trial for one in found.ranking if one.baseline} == {0}
    assert found.gain is not None
    assert found.gain.low < found.gain.mean < found.gain.high

    best = load_training(str(home.incumbent("search")))
    assert best.provenance.trial == found.chosen.trial == status["confirmation"]["chosen"]
    assert best.provenance.confirmed_accuracy == pytest.approx(found.chosen.interval.mean)
    assert best.to_yaml() == exported
    assert f"trial: {after.best.number}\n" in searched

    client = MlflowClient(tracking_uri=home.mlflow_url)
    experiment = client.get_experiment_by_name("search")
    runs = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    repeats = [run for run in runs.values() if run.info.run_name.startswith("trial-") and "seed" in run.info.run_name]
    names = [f"trial-{trial:05d}-seed-{index:02d}" for trial, index in pairs]
    assert sorted(run.info.run_name for run in repeats) == sorted(names)
    (parent,) = {run.data.tags["mlflow.parentRunId"] for run in repeats}
    assert runs[parent].data.metrics["confirmed_val_accuracy_mean"] == pytest.approx(found.chosen.interval.mean)
    assert runs[runs[parent].data.tags["mlflow.parentRunId"]].info.run_name == "search"
