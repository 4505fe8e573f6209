"""How MLflow's list of runs shows a study: all trials in one table with their objective, the best trial first. Its page
of charts begins with the objective of all trials over the epochs, and beside it over the searched parameters.

An address can name the order of the table, but not its columns. A *view*, as MLflow's button Share makes it, has both:
it is a JSON text in a tag of the experiment, and an address names it by its key. What such a text holds is in MLflow's
sources in `mlflow/server/js/src/experiment-tracking/components/experiment-page/models` and `.../runs-charts`.
"""

from __future__ import annotations

import json
from itertools import accumulate
from urllib.parse import quote, urlencode

from hpo.spec.objectives import objectives
from hpo.spec.study import Spec
from hpo.tracking.runs import OUTCOME_TAG
from hpo.tracking.upkeep.naming import STUDY_TAG, view_key

_FIRST = ["attributes.`Run Name`", "runDateAndNestInfo"]
"""The columns that MLflow shows first: name, and time with status."""
MOST_COLUMNS, MOST_LETTERS = 16, 600
"""Searched parameters in the table, and letters of their names. MLflow shows more on demand, and a tag has room for
these."""
MOST_AXES = 4
"""Searched parameters in the parallel coordinates."""
_MODEL_TRAINING = {"workflowType": "machine_learning"}
"""Without it MLflow 3.17 opens its pages for language models."""


def view(study: str, spec: Spec) -> str:
    """The view of a study: objectives, outcome, duration and searched parameters, the best value first."""
    fields = dict.fromkeys(objective.field for objective in objectives(spec.objectives))
    results = [*(f"metrics.`{field}`" for field in fields), f"tags.`{OUTCOME_TAG}`"]
    searched = [f"params.`{path}`" for path in _columns(spec)]
    table = {
        "datasetsFilter": [],
        "selectedColumns": [*results, "attributes.`Duration`", *searched],
        "columnOrder": [*_FIRST, *results, *searched],
        "columnWidths": {column: _width(column) for column in results + searched},
    }
    order = _order(study, spec.objective.field, ascending=not spec.objective.maximize)
    return json.dumps(order | table | _charts(list(fields), spec) | _TABLE, separators=(",", ":"))


def _charts(fields: list[str], spec: Spec) -> dict[str, object]:
    """The charts: first those of the objectives. MLflow adds the others behind them, in sections by name."""
    always = [path for path, parameter in spec.space.items() if not parameter.when]  # a run must have all of the axes
    axes = {"selectedParams": always[:MOST_AXES], "selectedMetrics": fields[:1], "showAllRuns": True}
    lines = [_chart(field, "LINE", metricKey=field, **_LINE) for field in fields]
    return {
        "compareRunCharts": [*lines[:1], _chart("parallel", "PARALLEL", **axes), *lines[1:]],
        "compareRunSections": [
            {"uuid": name, "name": name, "display": True, "isReordered": True} for name in (_MAIN, "incumbent", "spent")
        ],
        "isAccordionReordered": True,
    }


def _chart(name: str, kind: str, **settings: object) -> dict[str, object]:
    always = {"uuid": f"hpo-{name}", "type": kind, "metricSectionId": _MAIN, "deleted": False, "isGenerated": False}
    return always | settings


def _columns(spec: Spec) -> list[str]:
    lengths = accumulate(map(len, spec.space))
    return [path for path, length in zip(spec.space, lengths, strict=True) if length <= MOST_LETTERS][:MOST_COLUMNS]


def _width(column: str) -> int:
    """Width in pixels at which the title of a column fits in."""
    return 50 + 8 * len(column.partition("`")[2])


def _order(study: str, field: str, *, ascending: bool) -> dict[str, object]:
    """Which runs the list shows, and in which order. In any order but that of time MLflow shows all of them, those of
    trials too, instead of hiding them below the run of their study."""
    return {
        "searchFilter": f"tags.`{STUDY_TAG}` = '{study}'",
        "orderByKey": f"metrics.`{field}`",
        "orderByAsc": ascending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
    }


_MAIN = "Model metrics"
"""The section of metrics without a slash in their names."""
_LINE = {
    "runsCountToCompare": 20,
    "lineSmoothness": 0,
    "xAxisScaleType": "linear",
    "scaleType": "linear",
    "range": {},
    "xAxisKey": "step",
    "selectedXAxisMetricKey": "",
    "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
}
_TABLE = {
    "runsExpanded": {},
    "runsPinned": [],
    "runsHidden": [],
    "runsVisibilityMap": {},
    "runsHiddenMode": "FIRST_20_RUNS",
    "viewMaximized": False,
    "runListHidden": False,
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
    "groupBy": None,
    "groupsExpanded": {},
    "autoRefreshEnabled": True,
    "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
}
"""MLflow's own defaults, but 20 runs in the charts and not 10. The pages of MLflow 3.11 fail if one is missing."""


def address(experiment: str, study: str, *, has_view: bool) -> str:
    """The path of the list of a study's runs in MLflow's pages, e.g. `/#/experiments/1/runs?...`.

    Args:
        experiment: the experiment's id.
        has_view: whether the experiment has the tag `view_tag`. Without it the columns are MLflow's own.
    """
    if has_view:
        query = {"viewStateShareKey": view_key(study)}
    else:
        order = _order(study, "val_accuracy", ascending=False)
        query = {key: json.dumps(value) if isinstance(value, bool) else str(value) for key, value in order.items()}
    return f"/#/experiments/{experiment}/runs?{urlencode(query | _MODEL_TRAINING, quote_via=quote)}"


def run_address(experiment: str, run: str) -> str:
    """The address of a run, relative to any of MLflow's pages."""
    return f"#/experiments/{experiment}/runs/{run}?{urlencode(_MODEL_TRAINING)}"
