"""How much each searched parameter matters, as bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hpo.ledger.records import StudyRecord
from hpo.text import short_names
from reports.analysis.importance import FEWEST, METHOD, ROUGH_BELOW, Importances
from reports.analysis.stages import reached, rungs
from reports.drawing import palette
from reports.drawing.plot import Axis, Bars, Missing, Panel, Plot

ROUGH = f" Hatched: fewer than {ROUGH_BELOW} trials, so the shares are rough."


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
            _withheld(studies),
        )
    names = ranked(sorted({name for group in groups for name in group.importances.shares}), by_study)[::-1]
    short = short_names(names)
    ticks = [(float(row), short[name]) for row, name in enumerate(names)]
    return Plot(
        "importances",
        title,
        [
            Panel(
                Axis("Share of the importance (%)", (0.0, 110.0)),
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
        rough = group.importances.rough
        bars.append(Bars(group.label, rows, shares, group.color, None, True, width * 0.9, texts=texts, hatched=rough))
    return bars


def _caption(groups: Sequence[_Group], *, compared: bool) -> str:
    compared_trials = "; ".join(
        f"{group.label}: {group.importances.top_words}" if compared else group.importances.top_words for group in groups
    )
    rough = any(group.importances.rough for group in groups)
    return (
        "A parameter is important if its values in the best trials differ from its values in all trials. Best trials "
        f"here: {compared_trials}. Method: {METHOD}." + (ROUGH if rough else "")
    )


def _withheld(studies: Sequence[StudyRecord]) -> str:
    """Why there is no figure, with the number of trials that there are."""
    levels = [(study, level) for study in studies for level in (*map(math.ceil, rungs(study)), study.spec.train.epochs)]
    most = max(len(reached(study, level)) for study, level in levels)
    have = f"here it is {most}" if most < FEWEST else "here they are all equal"
    return (
        f"Importances need at least {FEWEST} trials that reported the same number of epochs, with different "
        f"accuracies; {have}."
    )
