"""Reports without the images beside their Markdown, which take longer to draw than all else of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from hpo.ledger.records import StudyRecord
from reports.page import render


def write_undrawn(studies: Sequence[StudyRecord], folder: Path) -> Path:
    """As `write_report`, for tests that look at the page and at texts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "_write_images", lambda figures, folder: None)
        return render.write_report(studies, folder)
