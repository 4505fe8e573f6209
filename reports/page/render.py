"""One study, or several on the same axes, as a page of HTML and as Markdown with PNGs.

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
from reports.analysis.answer import Answer, answer
from reports.analysis.importance import importances
from reports.drawing.plot import Missing, Plot
from reports.figures.contours import contours
from reports.figures.curves import curves
from reports.figures.history import history
from reports.figures.parameters import importance_plot, parallel, ranked, slices
from reports.figures.pareto import pareto
from reports.figures.scales import scales
from reports.figures.survival import survival_plot
from reports.figures.workers import gantt, totals
from reports.page import sentences
from reports.page.audit import audit_section
from reports.page.reproduce import recipe
from reports.page.tables import failures, trial_table

TEMPLATES = Path(__file__).parent / "templates"
IMAGES = "report-figures"
"""Folder of the PNGs, beside `report.md`."""
MOST_MARKDOWN_ROWS = 100


def write_report(studies: Sequence[StudyRecord], folder: Path) -> Path:
    """Write `report.html`, `report.md` and the latter's PNGs into `folder`, and return the path of the page.

    The page needs no network: everything is inside. Several studies are compared on the same axes.

    Raises:
        ValueError: no study is given.
        OSError: the folder cannot be written to.
    """
    if not studies:
        raise ValueError("a report needs at least one study")
    figures = draw(studies)
    content = _content(studies, figures)
    (folder / IMAGES).mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    page.write_text(_html(content, figures), encoding="utf-8")
    _write_images(figures, folder / IMAGES)
    (folder / "report.md").write_text(_markdown(content), encoding="utf-8")
    return page


def draw(studies: Sequence[StudyRecord]) -> list[Plot | Missing]:
    """All figures, in the order of the page."""
    axes = scales(studies)
    found = [importances(study) for study in studies]
    order = ranked(list(axes), found)
    return [
        history(studies),
        *(plot for index, study in enumerate(studies, 1) if (plot := pareto(study, f"front-{index}"))),
        curves(studies),
        survival_plot(studies),
        importance_plot(studies, found),
        parallel(studies, axes, order),
        slices(studies, axes, order),
        contours(studies, axes, order),
        totals(studies),
        *(gantt(study, f"gantt-{index}") for index, study in enumerate(studies, 1)),
    ]


def plots(study: StudyRecord) -> dict[str, bytes]:
    """The figures that stand beside a study's run in MLflow, as PNGs by file name; those without data are left out."""
    from reports.drawing.png import png

    found = importances(study)
    figures = [history([study]), curves([study]), importance_plot([study], [found])]
    return {f"{one.key}.png": png(one) for one in figures if isinstance(one, Plot)}


def _content(studies: Sequence[StudyRecord], figures: Sequence[Plot | Missing]) -> dict[str, Any]:
    """What both templates show."""
    answers = [answer(study) for study in studies]
    header, configurations = sentences.configurations(answers)
    columns, rows = trial_table(studies)
    return {
        "title": ", ".join(study.name for study in studies),
        "compared": len(studies) > 1,
        "verdict": sentences.verdict(answers) if len(studies) > 1 else "",
        "answers": [
            {
                "study": one.study.name,
                "description": redact(one.study.spec.description),
                "headline": sentences.headline(one),
                "state": sentences.state(one.study),
                "cards": sentences.cards(one),
                "confirmation": _confirmation(one.study),
            }
            for one in answers
        ],
        "selection": _selection(answers),
        "configurations": (header, configurations) if any(one.best for one in answers) else None,
        "fronts": [(study.name, *front_table(study)) for study in studies if len(study.spec.objectives) > 1],
        "figures": [one for one in figures if isinstance(one, Plot)],
        "missing": [one for one in figures if isinstance(one, Missing)],
        "audits": [audit_section(study) for study in studies],
        "failures": failures(studies),
        "columns": columns,
        "rows": rows,
        "statuses": sorted({row.status for row in rows}),
        "recipes": [recipe(study) for study in studies],
    }


def _selection(answers: Sequence[Answer]) -> str:
    if not any(one.best for one in answers):
        return ""
    return sentences.CONFIRMED if all(one.confirmed for one in answers) else sentences.SELECTION


def _confirmation(study: StudyRecord) -> dict[str, Any] | None:
    """The table of a study's confirmation, finished or not."""
    found = confirmation(study)
    if found is None:
        return None
    return {
        "lines": list(confirmation_text.lines(found)),
        "columns": confirmation_text.COLUMNS,
        "rows": confirmation_text.rows(found),
    }


def _html(content: dict[str, Any], figures: Sequence[Plot | Missing]) -> str:
    from plotly.offline import get_plotlyjs

    from reports.drawing.plotly_page import figure

    drawn = {one.key: figure(one) for one in figures if isinstance(one, Plot)}
    environment = _environment(autoescape=True)
    # The library is trusted text; it must only not end its own script element.
    library = Markup(get_plotlyjs().replace("</script", "<\\/script"))
    return environment.get_template("report.html").render(content, drawn=drawn, plotly=library)


def _markdown(content: dict[str, Any]) -> str:
    environment = _environment(autoescape=False, finalize=escape_markdown)
    ranked_rows = sorted(content["rows"], key=lambda row: row.value, reverse=True)[:MOST_MARKDOWN_ROWS]
    environment.filters["fenced"] = fenced
    text = environment.get_template("report.md").render(
        content, rows=ranked_rows, all_rows=len(content["rows"]), images=IMAGES
    )
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
    """A value that cannot act as Markdown or HTML, nor break a table; `Markup` is let through."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    flat = " ".join(value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())
    return re.sub(r"([\\`*_\[\]|#~$!])", r"\\\1", flat)


def fenced(text: str, language: str = "") -> Markup:
    """A code block that `text` cannot end: its fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}{language}\n{text.rstrip()}\n{fence}")


def _write_images(figures: Sequence[Plot | Missing], folder: Path) -> None:
    from reports.drawing.png import png

    for one in figures:
        if isinstance(one, Plot):
            (folder / f"{one.key}.png").write_bytes(png(one))
