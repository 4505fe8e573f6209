"""The section of a report that shows what the pruning cost."""

from __future__ import annotations

from dataclasses import dataclass

from hpo.ledger.records import StudyRecord
from hpo.search.pruning_audit import audit, remarks
from hpo.search.rungs import rung_resource


@dataclass(frozen=True)
class Section:
    """The audit of one study: sentences and a table."""

    study: str
    remarks: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """One per rung; empty if there are too few controls."""


def audit_section(study: StudyRecord) -> Section:
    """Audit the pruning of a study."""
    result = audit(study)
    unit = rung_resource(study.spec)
    return Section(
        study=study.name,
        remarks=tuple(remarks(study, result)),
        columns=(
            f"rung ({unit})",
            "controls",
            "rank agreement with the final result",
            "chance that the winner survives",
        ),
        rows=tuple(
            (f"{rung.level:g}", str(rung.controls), str(rung.tau), str(rung.retention)) for rung in result.rungs
        ),
    )
