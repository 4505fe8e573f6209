"""The plots that MLflow shows of a study."""

from __future__ import annotations

from typing import Any


def plots(study: Any) -> Any:
    """Draw a study's plots; the libraries are imported when the first one is drawn."""
    from reports.page import render

    return render.plots(study)
