"""A report of a real ledger: trials written by `hpo.ledger.writer` and read by `load_study`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hpo.driver.conductor import Conductor
from hpo.home import Home
from hpo.ledger.reader import load_study
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.search.distributions import distributions
from reports.analysis.answer import RETRAININGS_KEY, answer
from reports.analysis.timeline import account
from tests.browser.simulation import INFO, study_spec
from tests.support.undrawn_report import write_undrawn
from trainers.api import EpochMetrics


def test_a_study_that_the_conductor_wrote_has_a_report(home: Home, tmp_path: Path) -> None:
    spec = study_spec(
        "real", epochs=4, asha={"reduction_factor": 2, "grace_period": 1, "resource": "epochs"}, budget={"trials": 10}
    )
    ledger = Ledger.create(open_storage(home.ledger_url), spec, INFO)
    conductor = Conductor(ledger)
    while (assignment := conductor.next_trial()) is not None:
        number = assignment.number
        conductor.on_placed(number, "host", "cpu", 17)
        for epoch in range(1, 5):
            value = 0.5 + 0.1 * epoch - 0.01 * number
            metrics = EpochMetrics(epoch=epoch, val_accuracy=value, train_seconds=0.001, eval_seconds=0.0005, stage=0)
            if number == 4:
                conductor.on_failure(number, "OutOfMemory: 300 px")
                break
            if not conductor.on_epoch(number, metrics):
                break
    conductor.close()

    study = load_study(open_storage(home.ledger_url), "real")
    retrained = {RETRAININGS_KEY: [{"trial": 0, "test_accuracy": 0.88}]}
    study = dataclasses.replace(study, info={**study.info, **retrained})
    found = answer(study)
    assert found.best is study.trials[0]
    assert found.baseline is found.best
    assert found.test is not None
    assert (found.test.accuracy, found.test.seeds, found.test.deviation) == (0.88, 1, None)
    assert account(study).slots == 1
    assert study.count("pruned") > 0
    assert set(study.trials[1].values) <= set(distributions(spec.space))
    page = write_undrawn([study], tmp_path).read_text(encoding="utf-8")
    assert "Trial 0 is best: 90.00 % validation accuracy. It is the baseline" in page
    assert "OutOfMemory: 300 px" in page
    assert "88.00 %" in page
