"""The section of a report that shows what the pruning cost."""

from __future__ import annotations

from dataclasses import dataclass

from hpo.ledger.records import StudyRecord
from hpo.results.audit_text import columns, remarks, rows
from hpo.search.pruning_audit import audit


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
    return Section(study.name, tuple(remarks(study, result)), columns(study), tuple(rows(result)))
