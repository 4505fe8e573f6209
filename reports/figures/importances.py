"""How much each searched parameter matters, as bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpo.ledger.records import StudyRecord
from hpo.text import short_names
from reports.analysis.importance import METHOD, Importances
from reports.analysis.stages import FEW_TRIALS
from reports.drawing import palette
from reports.drawing.plot import Axis, Bars, Missing, Panel, Plot


@dataclass(frozen=True)
class _Group:
    """Bars of one colour: importances of one study after one epoch."""

    label: str
    color: str
    importances: Importances


def ranked(names: Sequence[str], by_study: Sequence[Sequence[Importances]]) -> list[str]:
    """Sort parameters by importance, summed over the studies; equal ones keep their order."""

    def total(name: str) -> float:
        return sum(importances[0].shares.get(name, 0.0) for importances in by_study if importances)

    return sorted(names, key=total, reverse=True)


def importance_plot(studies: Sequence[StudyRecord], by_study: Sequence[Sequence[Importances]]) -> Plot | Missing:
    """One bar per parameter and study; for a single study a second bar for the few trials that trained longest."""
    title = "Parameter importances"
    groups = _groups(studies, by_study)
    if not groups:
        return Missing(
            title,
            f"Importances need at least {FEW_TRIALS} trials that reported the same number of epochs, with different "
            "accuracies.",
        )
    names = ranked(sorted({name for group in groups for name in group.importances.shares}), by_study)[::-1]
    short = short_names(names)
    ticks = [(float(row), short[name]) for row, name in enumerate(names)]
    return Plot(
        "importances",
        title,
        [
            Panel(
                Axis("Share of the importance (%)", (0.0, 100.0)),
                Axis("", (-0.6, len(names) - 0.4), ticks),
                _bars(groups, names),
            )
        ],
        _caption(groups, compared=len(studies) > 1),
        height=150 + 26 * len(names) * len(groups),
    )


def _groups(studies: Sequence[StudyRecord], by_study: Sequence[Sequence[Importances]]) -> list[_Group]:
    if len(studies) > 1:
        return [
            _Group(study.name, palette.study_color(index), importances[0])
            for index, (study, importances) in enumerate(zip(studies, by_study, strict=True))
            if importances
        ]
    colors = (palette.BLUE, palette.SKY)
    return [
        _Group(f"after epoch {importances.epoch} ({importances.trials} trials)", color, importances)
        for importances, color in zip(by_study[0], colors, strict=False)
    ]


def _bars(groups: Sequence[_Group], names: Sequence[str]) -> list[Bars]:
    width = 0.78 / len(groups)
    bars = []
    for place, group in enumerate(groups):
        shift = ((len(groups) - 1) / 2 - place) * width
        shares = [round(100 * group.importances.shares.get(name, 0.0), 2) for name in names]
        texts = [f"{share:.0f} %" for share in shares]
        rows = [row + shift for row in range(len(names))]
        bars.append(Bars(group.label, rows, shares, group.color, horizontal=True, thickness=width * 0.9, texts=texts))
    return bars


def _caption(groups: Sequence[_Group], *, compared: bool) -> str:
    compared_trials = "; ".join(
        f"{group.label}: {group.importances.top_words}" if compared else group.importances.top_words for group in groups
    )
    return (
        "A parameter is important if its values in the best trials differ from its values in all trials. Best trials "
        f"here: {compared_trials}. Method: {METHOD}. With few trials the shares are rough."
    )
