"""Pages of MLflow's UI. Each function opens a page and returns when the page shows its content."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.browser.chromium import text, wait

EXPANDER = "[data-component-id*='runnamecellrenderer'] svg"
ROW_NAMES = "[col-id='attributes.`Run Name`'] a"
EXPAND = "[aria-label='Expand description']"
MODEL_TRAINING = "?workflowType=machine_learning"
"""Without it MLflow opens its pages for language models."""
DRAWN_LINES = ".js-plotly-plot .scatterlayer .trace path.js-line"


def _visit(window: Any, address: str) -> None:
    window.get("about:blank")  # a new fragment of the same page alone would not load anything
    # MLflow remembers which rows are expanded, and a click would collapse them.
    everything = {"origin": address.partition("#")[0].rstrip("/"), "storageTypes": "local_storage"}
    window.execute_cdp_cmd("Storage.clearDataForOrigin", everything)
    window.get(address)
    wait(window, lambda page: len(text(page)) > 200, address)
    # The assistant takes a quarter of the page.
    window.execute_script(
        "if (document.body.innerText.includes('MLflow Assistant'))"
        "document.querySelectorAll('button[aria-label=Close]').forEach(one => one.click())"
    )


def experiment(address: str) -> str:
    """The address of the experiment of the study whose list of runs is at `address`."""
    return address.partition("/runs")[0]


def run(address: str, identifier: str) -> str:
    """The address of a run of that experiment."""
    return f"{experiment(address)}/runs/{identifier}{MODEL_TRAINING}"


def _tab(address: str, name: str) -> str:
    """The address of a tab of the page of a run."""
    return f"{address.removesuffix(MODEL_TRAINING)}/{name}{MODEL_TRAINING}"


def overview(window: Any, address: str) -> str:
    """The text of the page of a study run or of a trial's run."""
    _visit(window, address)
    wait(window, lambda page: "Run ID" in text(page) and "Parameters (" in text(page), "the run's overview")
    wait(window, lambda page: "Child runs loading" not in text(page), "the run's children")
    window.execute_script(f'document.querySelectorAll("{EXPAND}").forEach(one => one.click())')
    return text(window)


def artifact(window: Any, address: str, name: str) -> None:
    """Open one of the run's images."""
    _visit(window, _tab(address, f"artifacts/{name}"))
    image = "return [...document.querySelectorAll('img')].some(one => one.naturalWidth > 600)"
    wait(window, lambda page: page.execute_script(image), name)


def _expand(window: Any) -> None:
    wait(window, lambda page: page.execute_script(f'return document.querySelector("{EXPANDER}")'), "the parent's row")
    window.execute_script(f'document.querySelector("{EXPANDER}").parentElement.click()')
    wait(window, lambda page: len(names(page)) > 1, "the trials below the study")


def names(window: Any) -> list[str]:
    """The names of the runs in the table, from top to bottom."""
    found: list[str] = window.execute_script(
        f'return [...document.querySelectorAll("{ROW_NAMES}")]'
        ".sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top).map(one => one.innerText)"
    )
    return found


def table(window: Any, address: str) -> list[str]:
    """The names in the table of runs, with the row of the study expanded."""
    _visit(window, f"{experiment(address)}/runs")
    _expand(window)
    return names(window)


def trials(window: Any, address: str, column: str) -> list[tuple[str, str]]:
    """The names of the runs that the table at `address` shows, and their values in a column, from top to bottom."""
    _visit(window, address)
    cells = (
        "const rows = (column) => Object.fromEntries([...document.querySelectorAll(`[row-index] [col-id='${column}']`)]"
        ".map(one => [one.closest('[row-index]').getAttribute('row-index'), one.innerText.split('\\n').pop()]));"
        "const names = rows('attributes.`Run Name`'), values = rows(arguments[0]);"
        "return Object.keys(names).sort((a, b) => a - b).map(row => [names[row], values[row] || ''])"
    )
    found = wait(window, lambda page: _filled(page.execute_script(cells, column)), f"the column {column}")
    return [(str(name), str(value)) for name, value in found]


def _filled(rows: list[tuple[str, str]]) -> list[tuple[str, str]] | None:
    return rows if rows and all(value for _, value in rows) else None


def all_charts(window: Any, address: str, metric: str, least: int) -> int:
    """The number of lines in the charts of the runs in the list at `address`, once there are so many and the chart of
    `metric` is shown."""
    return _charts(window, f"{address}&compareRunsMode=CHART", metric, least)


def charts(window: Any, address: str, metric: str) -> int:
    """The number of lines in the charts of a run's metrics, once the chart of `metric` is shown."""
    return _charts(window, _tab(address, "model-metrics"), metric)


def _charts(window: Any, address: str, metric: str, least: int = 1) -> int:
    _visit(window, address)
    lines = f'return document.querySelectorAll("{DRAWN_LINES}").length'
    wait(window, lambda page: metric in text(page), f"the chart of {metric}")
    found: int = wait(window, lambda page: (count := page.execute_script(lines)) >= least and count, f"{least} lines")
    return found


def comparison(window: Any, address: str, runs: Sequence[str]) -> list[str]:
    """The names of the axes when runs are compared in parallel coordinates."""
    root, number = experiment(address).split("#/experiments/")
    chosen = f"?runs={json.dumps(list(runs))}&experiments={json.dumps([number])}"  # MLflow takes `runs` as the first
    _visit(window, f"{root}#/compare-runs{chosen}&{MODEL_TRAINING[1:]}")
    axes = "return [...document.querySelectorAll('.parcoords .axis-title')].map(one => one.textContent)"
    found: list[str] = wait(window, lambda page: page.execute_script(axes), "parallel coordinates")
    return found
