"""Pictures of a real study: python -m tests.browser.screenshots HOME STUDY OUTDIR

Of MLflow's UI (the study's page, its trials, charts, a comparison) and of the report's page (its top, every plot).
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hpo.home import Home
from hpo.ledger.reader import read_study
from hpo.ledger.records import StudyRecord
from hpo.tracking.runs import Store
from reports.page.render import write_report
from tests.browser import mlflow_pages as pages
from tests.browser.chromium import chromium, missing, mlflow_ui, wait

SETTLED_S = 2.0
"""Animations of a page have ended by then; nothing tells when."""
MOST_COMPARED = 40


def of_mlflow(window: Any, home: Home, study: StudyRecord, folder: Path) -> None:
    """`mlflow-study.png`, `-trials.png`, `-charts.png` and `-comparison.png`."""
    window.set_window_size(1600, 1200)
    runs = [trial.mlflow_run_id for trial in study.trials if trial.complete and trial.mlflow_run_id]
    with mlflow_ui(home, study.name) as address:
        pages.overview(window, pages.run(address, Store(study, home).parent))
        _save(window, folder / "mlflow-study.png")
        pages.trials(window, address, f"metrics.`{study.spec.objective.field}`")
        _save(window, folder / "mlflow-trials.png")
        pages.all_charts(window, address, study.spec.objective.field, least=1)
        _save(window, folder / "mlflow-charts.png")
        pages.comparison(window, address, runs[:MOST_COMPARED])
        _save(window, folder / "mlflow-comparison.png")


def of_report(window: Any, study: StudyRecord, folder: Path) -> None:
    """`report.png`, `report-phone.png`, and `report-KEY.png` for every plot."""
    from selenium.webdriver.common.by import By

    window.set_window_size(1280, 1400)
    with tempfile.TemporaryDirectory() as scratch:
        window.get(write_report([study], Path(scratch)).as_uri())
        drawn = "return document.documentElement.dataset.drawn === 'all'"
        wait(window, lambda one: one.execute_script(drawn), "the report's figures")
        _save(window, folder / "report.png")
        for plot in window.find_elements(By.CSS_SELECTOR, ".plot[data-plot]"):
            window.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
            (folder / f"report-{plot.get_attribute('data-plot')}.png").write_bytes(plot.screenshot_as_png)
        phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        window.refresh()
        wait(window, lambda one: one.execute_script(drawn), "the report's figures on a phone")
        _save(window, folder / "report-phone.png")


def _save(window: Any, path: Path) -> None:
    time.sleep(SETTLED_S)
    path.write_bytes(window.get_screenshot_as_png())
    print(path, flush=True)


def main() -> None:
    """See the module."""
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    if lacking := missing():
        sys.exit(lacking)
    home, name, folder = Home.at(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
    study = read_study(home, name)
    folder.mkdir(parents=True, exist_ok=True)
    with chromium() as window:
        of_mlflow(window, home, study, folder)
        of_report(window, study, folder)


if __name__ == "__main__":
    main()
