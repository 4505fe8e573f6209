"""The report of one study, or of several on the same axes, as one HTML file and as Markdown with PNGs.

write_report([load_study(storage, "cifar10")], Path("report"))
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from hpo.ledger.records import StudyRecord
from hpo.redact import redact
from hpo.results import confirmation_text
from hpo.results.confirmation import confirmation
from hpo.results.pareto import table as front_table
from hpo.results.tables.table import csv_text
from hpo.results.tables.trials import trial_table as every_trial
from reports.analysis.answer import Answer, answer
from reports.analysis.importance import importances
from reports.drawing.plot import Missing, Plot
from reports.figures.contours import contours
from reports.figures.curves import curves
from reports.figures.history import history
from reports.figures.importances import importance_plot, ranked
from reports.figures.models import model_plot
from reports.figures.parallel import parallel
from reports.figures.pareto import pareto
from reports.figures.scales import scales
from reports.figures.slices import slices
from reports.figures.survival import survival_plot
from reports.figures.workers import gantt, totals
from reports.page import sentences
from reports.page.audit import audit_section
from reports.page.cards import cards
from reports.page.finding import finding
from reports.page.models import NOTE, models_section
from reports.page.reproduce import reproduction
from reports.page.tables import best_rows, configurations, failures, trial_table

TEMPLATES = Path(__file__).parent / "templates"
IMAGES = "report-figures"
"""Folder of the PNGs, beside `report.md`."""
TABLE = "trials.csv"
"""Every trial, beside the page."""
MOST_ROWS, MOST_MARKDOWN_ROWS = 1_000, 100
"""Rows of a table on the page and in Markdown."""


def write_report(studies: Sequence[StudyRecord], folder: Path, home_option: str = "") -> Path:
    """Write `report.html`, `report.md` with its PNGs, and `trials.csv` into `folder`; return the path of `report.html`.

    The HTML file contains everything that it shows, so it needs no network. Its tables hold `MOST_ROWS` rows at most,
    and say so; `trials.csv` holds every trial.

    Args:
        home_option: `hpo.home.Home.option` of the folder that holds the studies, for the commands on the page.

    Raises:
        ValueError: no study is given.
        OSError: the folder cannot be written to.
    """
    if not studies:
        raise ValueError("a report needs at least one study")
    figures = draw(studies)
    content = _content(studies, figures, home_option)
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    page.write_text(_html(content, figures), encoding="utf-8")
    _write_images(figures, folder / IMAGES)
    (folder / "report.md").write_text(_markdown(content), encoding="utf-8")
    (folder / TABLE).write_text(csv_text(every_trial(studies)), encoding="utf-8")
    return page


def draw(studies: Sequence[StudyRecord]) -> list[Plot | Missing]:
    """Make all figures, in the order of the page."""
    axes = scales(studies)
    by_study = [importances(study) for study in studies]
    order = ranked(list(axes), by_study)
    return [
        history(studies),
        *(plot for index, study in enumerate(studies, 1) if (plot := pareto(study, f"front-{index}"))),
        *(plot for index, study in enumerate(studies, 1) if (plot := model_plot(study, f"models-{index}"))),
        curves(studies),
        survival_plot(studies),
        importance_plot(studies, by_study),
        parallel(studies, axes, order),
        slices(studies, axes, order),
        contours(studies, axes, order),
        totals(studies),
        *(gantt(study, f"gantt-{index}") for index, study in enumerate(studies, 1)),
    ]


def plots(study: StudyRecord) -> dict[str, bytes]:
    """Draw the figures of a study's run in MLflow: PNGs by file name. Figures without data are left out."""
    from reports.drawing.png import png

    figures = [history([study]), curves([study]), importance_plot([study], [importances(study)])]
    return {f"{figure.key}.png": png(figure) for figure in figures if isinstance(figure, Plot)}


def _content(studies: Sequence[StudyRecord], figures: Sequence[Plot | Missing], home_option: str) -> dict[str, Any]:
    """Everything that the two templates show."""
    answers = [answer(study) for study in studies]
    columns, rows = trial_table(studies)
    return {
        "title": ", ".join(study.name for study in studies),
        "compared": len(studies) > 1,
        "verdict": sentences.verdict(answers) if len(studies) > 1 else "",
        "answers": [_result(answer, home_option) for answer in answers],
        "selection": f"{sentences.selection(answers)} {sentences.retrained_otherwise(studies)}".strip(),
        "configurations": configurations(answers) if any(answer.best for answer in answers) else None,
        "fronts": [(study.name, *front_table(study)) for study in studies if len(study.spec.objectives) > 1],
        "models": [section for study in studies if (section := models_section(study))],
        "models_note": NOTE,
        "figures": [figure for figure in figures if isinstance(figure, Plot)],
        "missing": [figure for figure in figures if isinstance(figure, Missing)],
        "audits": [audit_section(study) for study in studies],
        "failures": failures(studies),
        "columns": columns,
        "rows": (shown := best_rows(rows, MOST_ROWS)),
        "all_rows": rows,
        "table": TABLE,
        "most_rows": MOST_ROWS,
        "statuses": sorted({row.status for row in shown}),
        "reproductions": [reproduction(study, home_option) for study in studies],
        "sentences": sentences,
    }


def _result(answer: Answer, home_option: str) -> dict[str, Any]:
    """What a report says first about one study."""
    return {
        "study": answer.study.name,
        "description": redact(answer.study.spec.description),
        "finding": finding(answer, home_option),
        "state": sentences.state(answer.study),
        "cards": cards(answer),
        "confirmation": _confirmation(answer.study),
    }


def _confirmation(study: StudyRecord) -> dict[str, Any] | None:
    """Sentences and table of a study's confirmation, also while it is unfinished."""
    result = confirmation(study)
    if result is None:
        return None
    return {
        "lines": list(confirmation_text.lines(result)),
        "columns": confirmation_text.COLUMNS,
        "rows": confirmation_text.rows(result),
    }


def _html(content: dict[str, Any], figures: Sequence[Plot | Missing]) -> str:
    from plotly.offline import get_plotlyjs

    from reports.drawing.plotly_page import plotly_figure

    drawn = {figure.key: plotly_figure(figure) for figure in figures if isinstance(figure, Plot)}
    environment = _environment(autoescape=True)
    # The library is trusted text, but it must not end its own script element.
    library = Markup(get_plotlyjs().replace("</script", "<\\/script"))
    return environment.get_template("report.html").render(content, drawn=drawn, plotly=library)


def _markdown(content: dict[str, Any]) -> str:
    environment = _environment(autoescape=False, finalize=escape_markdown)
    shown = best_rows(content["all_rows"], MOST_MARKDOWN_ROWS)
    environment.filters["fenced"] = fenced
    text = environment.get_template("report.md").render({**content, "rows": shown}, images=IMAGES)
    return re.sub(r"\n{3,}", "\n\n", text)


def _environment(**options: Any) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )


def escape_markdown(value: Any) -> Any:
    """Escape a text so that it is no Markdown and no HTML and stays in its table cell; `Markup` passes unchanged."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    flat = " ".join(value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())
    return re.sub(r"([\\`*_\[\]|#~$!])", r"\\\1", flat)


def fenced(text: str, language: str = "") -> Markup:
    """A code block whose fence is longer than any run of backticks in `text`, so that `text` cannot end it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}{language}\n{text.rstrip()}\n{fence}")


def _write_images(figures: Sequence[Plot | Missing], folder: Path) -> None:
    from reports.drawing.png import png

    for figure in figures:
        if isinstance(figure, Plot):
            (folder / f"{figure.key}.png").write_bytes(png(figure))
