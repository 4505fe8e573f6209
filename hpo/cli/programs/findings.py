"""What a report found, for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpo.home import Home
from hpo.ledger.records import StudyRecord
from hpo.results.winner import winner_json
from reports.analysis.answer import answer
from reports.page.finding import finding
from reports.page.models import models_section


def report_json(studies: Sequence[StudyRecord], page: Path, home: Home) -> dict[str, Any]:
    """The files of a report that was written to `page`, and what it says first of each study."""
    page = page.resolve()
    return {
        "page": str(page),
        "uri": page.as_uri(),
        "markdown": str(page.with_suffix(".md")),
        "table": str(page.with_name("trials.csv")),
        "studies": [finding_json(study, home) for study in studies],
    }


def finding_json(study: StudyRecord, home: Home) -> dict[str, Any]:
    """What was found, whether it is more than chance, why, and what to do next."""
    result = answer(study)
    said, models = finding(result, home.option), models_section(study)
    return {
        "study": study.name,
        **winner_json(study),
        "found": said.found,
        "configuration": dict(result.best.values) if result.best else None,
        "verdict": said.verdict,
        "why": said.why or None,
        "next": dataclasses.asdict(said.step) if said.step else None,
        "models": {"answers": models.answers, "cautions": models.cautions, "models": models.json} if models else None,
    }
