"""Pages of MLflow's UI as a person opens them: each function returns once the page shows what it is for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.browser.chromium import text, wait

EXPANDER = "[data-component-id*='runnamecellrenderer'] svg"
ROW_NAMES = "[col-id='attributes.`Run Name`'] a"
EXPAND = "[aria-label='Expand description']"
DRAWN_LINES = ".js-plotly-plot .scatterlayer .trace path.js-line"


def _visit(window: Any, address: str) -> None:
    window.get("about:blank")  # else a new fragment of the same page would load nothing
    # MLflow remembers which rows were open, and a click would close them.
    everything = {"origin": address.partition("#")[0].rstrip("/"), "storageTypes": "local_storage"}
    window.execute_cdp_cmd("Storage.clearDataForOrigin", everything)
    window.get(address)
    wait(window, lambda one: len(text(one)) > 200, address)
    # The assistant takes a quarter of the page.
    window.execute_script(
        "if (document.body.innerText.includes('MLflow Assistant'))"
        "document.querySelectorAll('button[aria-label=Close]').forEach(one => one.click())"
    )


def experiment(address: str) -> str:
    """The address of the experiment that a study's page belongs to."""
    return address.partition("/runs/")[0]


def overview(window: Any, address: str) -> str:
    """The study's own run, or a trial's: its words."""
    _visit(window, address)
    wait(window, lambda one: "Run ID" in text(one) and "Parameters (" in text(one), "the run's overview")
    wait(window, lambda one: "Child runs loading" not in text(one), "the run's children")
    window.execute_script(f'document.querySelectorAll("{EXPAND}").forEach(one => one.click())')
    return text(window)


def artifact(window: Any, address: str, name: str) -> None:
    """One of the run's images."""
    _visit(window, f"{address}/artifacts/{name}")
    image = "return [...document.querySelectorAll('img')].some(one => one.naturalWidth > 600)"
    wait(window, lambda one: one.execute_script(image), name)


def _expand(window: Any) -> None:
    wait(window, lambda one: one.execute_script(f'return document.querySelector("{EXPANDER}")'), "the parent's row")
    window.execute_script(f'document.querySelector("{EXPANDER}").parentElement.click()')
    wait(window, lambda one: len(names(one)) > 1, "the trials below the study")


def names(window: Any) -> list[str]:
    """Run names in the table, from the top."""
    found: list[str] = window.execute_script(
        f'return [...document.querySelectorAll("{ROW_NAMES}")]'
        ".sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top).map(one => one.innerText)"
    )
    return found


def table(window: Any, address: str) -> list[str]:
    """The runs with the study's row expanded: the names shown."""
    _visit(window, f"{experiment(address)}/runs")
    _expand(window)
    return names(window)


def charts(window: Any, address: str, metric: str) -> int:
    """The charts of one run's metrics: how many lines are drawn, once `metric` is among them."""
    _visit(window, f"{address}/model-metrics")
    lines = f'return document.querySelectorAll("{DRAWN_LINES}").length'
    wait(window, lambda one: metric in text(one), f"the chart of {metric}")
    found: int = wait(window, lambda one: one.execute_script(lines), "a line")
    return found


def comparison(window: Any, address: str, runs: Sequence[str]) -> list[str]:
    """Runs side by side, drawn as parallel coordinates: the names of the axes."""
    root, number = experiment(address).split("#/experiments/")
    _visit(window, f"{root}#/compare-runs?runs={json.dumps(list(runs))}&experiments={json.dumps([number])}")
    axes = "return [...document.querySelectorAll('.parcoords .axis-title')].map(one => one.textContent)"
    found: list[str] = wait(window, lambda one: one.execute_script(axes), "parallel coordinates")
    return found
