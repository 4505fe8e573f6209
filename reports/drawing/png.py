"""Figures for Markdown and print: a `Plot` as a PNG on a white ground, drawn by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from reports.drawing import palette
from reports.drawing.plot import Axis, Bars, Lines, Panel, Plot, Points, Rule, Surface

WIDTH = 11.0
"""Width in inches: 1,210 pixels."""
DPI = 110
_LETTER, _SIGN = 0.066, 0.5
"""Width in inches of a letter of the legend on average, and of the sign before a name with its margins."""
COLORS = LinearSegmentedColormap.from_list("sequential", palette.SEQUENTIAL)
MARKER = {"circle": "o", "x": "X", "triangle-up": "^", "diamond": "D", "star": "*", "square": "s"}
DASH = {"solid": "-", "dash": "--", "dot": ":"}
STYLE: Any = {
    "text.parse_math": False,  # a `$` in a text is a dollar sign
    "axes.grid": True,
    "grid.color": "#e3e5e8",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8d939c",
    "font.size": 9.5,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


def png(plot: Plot) -> bytes:
    """Draw a figure and return the PNG file."""
    rows = -(-len(plot.panels) // plot.columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, plot.height * rows / 100), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, plot.columns, squeeze=False).ravel()
        for panel, ax in zip(plot.panels, axes, strict=False):
            _draw(ax, panel, plot)
        for ax in axes[len(plot.panels) :]:
            ax.set_visible(False)
        if plot.scale:
            norm = Normalize(plot.scale.low, plot.scale.high)
            figure.colorbar(ScalarMappable(norm, COLORS), ax=axes.tolist(), label=plot.scale.title)
        _legend(figure, axes.tolist())
        stream = io.BytesIO()
        figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _legend(figure: Figure, axes: list[Axes]) -> None:
    entries: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        figure.legend(entries.values(), entries.keys(), loc="outside upper left", ncols=_columns(list(entries)))


def _columns(names: list[str]) -> int:
    """As many columns of a legend as fit the figure, at most six."""
    for columns in range(6, 1, -1):
        rows = -(-len(names) // columns)
        widest = [max(map(len, names[start : start + rows])) for start in range(0, len(names), rows)]
        if sum(_SIGN + _LETTER * width for width in widest) <= WIDTH:
            return columns
    return 1


def _draw(ax: Axes, panel: Panel, plot: Plot) -> None:
    for mark in panel.marks:
        _MARKS[type(mark)](ax, mark, plot)
    _axis(ax, panel.x, "x")
    _axis(ax, panel.y, "y")
    if panel.title:
        ax.set_title(panel.title, pad=22 if panel.rules else 6)
    for rule in panel.rules:
        _rule(ax, rule)


def _axis(ax: Axes, axis: Axis, which: str) -> None:
    ax.set(**{f"{which}label": axis.title})
    if axis.ticks is not None:
        ticks = [at for at, _ in axis.ticks]
        labels = [label for _, label in axis.ticks]
        (ax.set_xticks if which == "x" else ax.set_yticks)(ticks, labels)
        if which == "x" and sum(map(len, labels)) > 110:
            ax.tick_params(axis="x", labelrotation=20)
    if axis.span:
        (ax.set_xlim if which == "x" else ax.set_ylim)(*axis.span)


def _rule(ax: Axes, rule: Rule) -> None:
    style: dict[str, Any] = {"color": palette.GREY, "linewidth": 0.9, "linestyle": DASH[rule.dash], "zorder": 1}
    if rule.vertical:
        ax.axvline(rule.at, **style)
        height = 13 if rule.raised else 3
        place = ((rule.at, 1.0), ("data", "axes fraction"), (0, height), "center")
    else:
        ax.axhline(rule.at, **style)
        place = ((1.0, rule.at), ("axes fraction", "data"), (-2, -11), "right")
    at, coordinates, offset, side = place
    ax.annotate(
        rule.label,
        at,
        xycoords=coordinates,
        xytext=offset,
        textcoords="offset points",
        ha=side,
        fontsize=8,
        color="#555b66",
        annotation_clip=False,
    )


def _lines(ax: Axes, mark: Lines, plot: Plot) -> None:
    xs = np.concatenate([[*x, np.nan] for x, _ in mark.paths])
    ys = np.concatenate([[*y, np.nan] for _, y in mark.paths])
    ax.plot(
        xs,
        ys,
        color=mark.color,
        linewidth=mark.width * 0.8,
        linestyle=DASH[mark.dash],
        alpha=mark.opacity,
        drawstyle="steps-post" if mark.steps else "default",
        label=mark.name if mark.legend else "_nolegend_",
    )


def _points(ax: Axes, mark: Points, plot: Plot) -> None:
    for x, y, label in zip(mark.x, mark.y, mark.labels, strict=False):
        ax.text(x, y, label, ha="center", va="center", fontsize=8)
    if mark.labels:
        return
    coloured: dict[str, Any] = {"color": mark.color}
    if mark.values is not None and plot.scale:
        norm = Normalize(plot.scale.low, plot.scale.high)
        coloured = {"c": list(mark.values), "cmap": COLORS, "norm": norm}
    ax.scatter(
        list(mark.x),
        list(mark.y),
        s=mark.size**2 * 0.6,
        marker=MARKER[mark.symbol],
        alpha=mark.opacity,
        linewidths=0.4,
        edgecolors="#5b6270",
        label=mark.name if mark.legend else "_nolegend_",
        zorder=3,
        **coloured,
    )


def _bars(ax: Axes, mark: Bars, plot: Plot) -> None:
    starts = list(mark.starts) if mark.starts is not None else [0.0] * len(mark.lengths)
    shared: dict[str, Any] = {
        "color": mark.color,
        "label": mark.name if mark.legend else "_nolegend_",
    }
    if mark.hatched:
        shared |= {"hatch": "///", "edgecolor": "white", "linewidth": 0}
    if mark.horizontal and not mark.texts:
        _strips(ax, mark, starts, shared)
        return
    if mark.horizontal:
        drawn = ax.barh(list(mark.positions), list(mark.lengths), mark.thickness, starts, **shared)
    else:
        drawn = ax.bar(list(mark.positions), list(mark.lengths), mark.thickness, starts, **shared)
    if mark.texts:
        inside = mark.starts is not None or not mark.horizontal
        style: dict[str, Any] = {"label_type": "edge", "padding": 2}
        if inside:
            style = {"label_type": "center", "color": palette.ink_on(mark.color)}
        ax.bar_label(drawn, list(mark.texts), fontsize=8, **style)


def _strips(ax: Axes, mark: Bars, starts: list[float], shared: dict[str, Any]) -> None:
    """Draw many bars in few rows as one collection per row, because thousands of single bars take minutes."""
    rows: dict[float, list[tuple[float, float]]] = {}
    for position, start, length in zip(mark.positions, starts, mark.lengths, strict=True):
        rows.setdefault(position, []).append((start, length))
    for position, pieces in rows.items():
        ax.broken_barh(pieces, (position - mark.thickness / 2, mark.thickness), linewidth=0, **shared)


def _surface(ax: Axes, mark: Surface, plot: Plot) -> None:
    assert plot.scale is not None  # a surface without a scale has no meaning
    z = np.ma.masked_invalid([[np.nan if value is None else value for value in row] for row in mark.z])
    if mark.stepped:
        norm = Normalize(plot.scale.low, plot.scale.high)
        ax.pcolormesh(mark.x, mark.y, z, shading="nearest", cmap=COLORS, norm=norm)
        return
    ax.contourf(mark.x, mark.y, z, plot.scale.levels, cmap=COLORS, extend="both")


_MARKS: dict[type, Callable[[Axes, Any, Plot], None]] = {
    Lines: _lines,
    Points: _points,
    Bars: _bars,
    Surface: _surface,
}
