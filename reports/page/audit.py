"""The audit of the pruning as the report shows it."""

from __future__ import annotations

from dataclasses import dataclass

from hpo.ledger.records import StudyRecord
from hpo.search.pruning_audit import audit, remarks
from hpo.search.rungs import rung_resource


@dataclass(frozen=True)
class Section:
    """What is said of one study."""

    study: str
    remarks: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """One per rung; none where there are too few controls."""


def audit_section(study: StudyRecord) -> Section:
    """Sentences and a table."""
    found = audit(study)
    return Section(
        study=study.name,
        remarks=tuple(remarks(study, found)),
        columns=(f"rung ({rung_resource(study.spec)})", "controls", "Kendall's tau to the end", "winner passes"),
        rows=tuple((f"{rung.level:g}", str(rung.controls), str(rung.tau), str(rung.retention)) for rung in found.rungs),
    )
