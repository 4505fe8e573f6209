"""Figures for the page: a `Plot` as the JSON of plotly. All figures are SVG, so a browser needs no WebGL."""

from __future__ import annotations

import html
import json
import textwrap
from collections.abc import Callable
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from reports.drawing import palette
from reports.drawing.plot import Axis, Bars, ColorScale, Lines, Plot, Points, Rule, Surface

MARGIN_BOTTOM = 64
MOST_LETTERS, PHONE_LETTERS = 40, 34
"""Letters of one line in a legend and in the title of an axis that a phone shows whole."""
ROOM_FOR_LEGEND = 60
"""Pixels that a figure on a phone is higher, because its legend takes more lines."""


def plotly_figure(plot: Plot) -> dict[str, Any]:
    """`{"data": [...], "layout": {...}, "narrow": {...}}` for `Plotly.newPlot`; the page sets the colours of text and
    grid. The layout `narrow` is for a phone: all panels below each other."""
    built = _axes(plot, plot.columns)
    for index, panel in enumerate(plot.panels):
        for mark in panel.marks:
            built.add_trace(_TRACES[type(mark)](mark, plot), **_place(index, plot.columns))
    figure: dict[str, Any] = json.loads(built.to_json())
    figure["narrow"] = json.loads(_axes(plot, 1, narrow=True).to_json())["layout"]
    for name in ("layout", "narrow"):
        figure[name].pop("template", None)  # the page has its own templates for light and dark
    return figure


def _place(index: int, columns: int) -> dict[str, int]:
    return {"row": index // columns + 1, "col": index % columns + 1}


def _axes(plot: Plot, columns: int, *, narrow: bool = False) -> go.Figure:
    """The panels with their axes and rules, but without marks."""
    rows = -(-len(plot.panels) // columns)
    height = plot.height * rows + (ROOM_FOR_LEGEND if narrow else 0)
    built = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[text(panel.title) for panel in plot.panels],
        horizontal_spacing=0.09 if columns > 1 else 0.0,
        vertical_spacing=min(0.9 / rows, (110 if narrow else 90) / height) if rows > 1 else 0.0,
    )
    for index, panel in enumerate(plot.panels):
        where = _place(index, columns)
        across, up = text(panel.x.title), text(panel.y.title)
        if narrow:  # panels beside each other share the title of the first one; below each other each needs its own
            across, up = wrapped(panel.x.title, PHONE_LETTERS), up or text(plot.panels[0].y.title)
        built.update_xaxes(_axis(panel.x, across), **where)
        built.update_yaxes(_axis(panel.y, up), **where)
        for rule in panel.rules:
            _draw_rule(built, rule, where)
    _layout(built, plot, height, narrow=narrow)
    return built


def text(plain: str) -> str:
    """Escape a plain text: plotly would read tags, e.g. `<b>` and `<a href>`, in every text."""
    return html.escape(plain, quote=False).replace("\n", "<br>")


def wrapped(plain: str, letters: int = MOST_LETTERS) -> str:
    """The escaped text in lines of at most so many letters."""
    return text("\n".join(textwrap.wrap(plain, letters)))


def _layout(built: go.Figure, plot: Plot, height: int, *, narrow: bool) -> None:
    above = 20 * max(
        (1 + any(rule.raised for rule in panel.rules) if panel.rules else bool(panel.title)) for panel in plot.panels
    )
    top = above + 42
    inner = height - top - MARGIN_BOTTOM
    built.update_layout(
        height=height,
        margin={"l": 44 if narrow else 64, "r": 12 if narrow else 24, "t": top, "b": MARGIN_BOTTOM},
        barmode="overlay",
        hovermode="closest",
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1 + (above + 6) / inner},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        bargap=0,
    )
    built.update_layout(legend_yanchor="bottom")
    if plot.scale and any(
        isinstance(mark, Points) and mark.values is not None for panel in plot.panels for mark in panel.marks
    ):
        built.update_layout(
            coloraxis={
                "colorscale": list(palette.SEQUENTIAL),
                "cmin": plot.scale.low,
                "cmax": plot.scale.high,
                "colorbar": _color_bar(plot.scale),
            }
        )


def _color_bar(scale: ColorScale) -> dict[str, Any]:
    return {"title": {"text": text(scale.title), "side": "right"}, "thickness": 12, "tickformat": ".2~f"}


def _axis(axis: Axis, title: str) -> dict[str, Any]:
    layout: dict[str, Any] = {"title": {"text": title, "standoff": 8}, "automargin": True, "zeroline": False}
    if axis.span:
        layout["range"] = list(axis.span)
    if axis.ticks is not None:
        layout |= {"tickvals": [at for at, _ in axis.ticks], "ticktext": [text(label) for _, label in axis.ticks]}
    return layout


def _draw_rule(built: go.Figure, rule: Rule, where: dict[str, int]) -> None:
    line = {"color": palette.GREY, "width": 1, "dash": rule.dash}
    note: dict[str, Any] = {"annotation_text": text(rule.label), "annotation_font_size": 11}
    if rule.vertical:
        shift = 14 if rule.raised else 0
        built.add_vline(
            rule.at,
            line=line,
            **note,
            annotation_position="top",
            annotation_yshift=shift,
            **where,
            exclude_empty_subplots=False,
        )
    else:
        built.add_hline(
            rule.at, line=line, **note, annotation_position="bottom right", **where, exclude_empty_subplots=False
        )


def _lines(mark: Lines, plot: Plot) -> go.Scatter:
    x: list[float | None] = []
    y: list[float | None] = []
    hover: list[str] = []
    for index, (xs, ys) in enumerate(mark.paths):
        x += [*xs, None]
        y += [*ys, None]
        hover += [text(mark.hover[index]) if mark.hover else ""] * (len(xs) + 1)
    return go.Scatter(
        x=x[:-1],
        y=y[:-1],
        mode="lines",
        name=wrapped(mark.name),
        legendgroup=text(mark.name),
        showlegend=mark.legend,
        opacity=mark.opacity,
        connectgaps=False,
        line={"color": mark.color, "width": mark.width, "dash": mark.dash, "shape": "hv" if mark.steps else "linear"},
        text=hover[:-1] if mark.hover else None,
        hovertemplate="%{text}<br>x %{x}, y %{y}<extra></extra>" if mark.hover else None,
        hoverinfo=None if mark.hover else "skip" if not mark.name else None,
    )


def _points(mark: Points, plot: Plot) -> go.Scatter:
    marker: dict[str, Any] = {"symbol": mark.symbol, "size": mark.size, "line": {"width": 0.6, "color": "#5b6270"}}
    if mark.values is not None:
        marker |= {"color": list(mark.values), "coloraxis": "coloraxis"}
    else:
        marker["color"] = mark.color
    if mark.symbol == "x":
        marker["line"] = {"width": 0}
    return go.Scatter(
        x=list(mark.x),
        y=list(mark.y),
        mode="text" if mark.labels else "markers",
        name=wrapped(mark.name),
        legendgroup=text(mark.name),
        showlegend=mark.legend,
        opacity=mark.opacity,
        marker=marker,
        text=[text(plain) for plain in mark.labels or mark.hover] or None,
        textfont={"size": 11} if mark.labels else None,
        hovertemplate="%{text}<extra></extra>" if mark.hover else None,
        hoverinfo=None if mark.hover else "skip",
    )


def _bars(mark: Bars, plot: Plot) -> go.Bar:
    stacked = mark.starts is not None or not mark.horizontal  # then there is no room outside
    ends = {"x": list(mark.lengths), "y": list(mark.positions)}
    if not mark.horizontal:
        ends = {"x": ends["y"], "y": ends["x"]}
    return go.Bar(
        **ends,
        base=list(mark.starts) if mark.starts is not None else None,
        orientation="h" if mark.horizontal else "v",
        width=mark.thickness,
        name=wrapped(mark.name),
        legendgroup=text(mark.name),
        showlegend=mark.legend,
        marker=_bar_style(mark),
        text=[text(plain) for plain in mark.texts] or None,
        textposition=("outside" if mark.hatched else "inside" if stacked else "auto") if mark.texts else None,
        cliponaxis=False,
        insidetextanchor="middle" if stacked else "end",
        constraintext="none",  # it would make the texts smaller than people can read
        insidetextfont={"color": palette.ink_on(mark.color)},
        textangle=0 if mark.texts else None,
        hovertext=[text(plain) for plain in mark.hover] or None,
        hovertemplate="%{hovertext}<extra></extra>" if mark.hover else None,
    )


def _bar_style(mark: Bars) -> dict[str, Any]:
    if not mark.hatched:
        return {"color": mark.color, "line": {"width": 0}}
    stripes = {"shape": "/", "bgcolor": "rgba(0,0,0,0)", "fgcolor": mark.color, "size": 7, "solidity": 0.5}
    return {"color": mark.color, "line": {"width": 1, "color": mark.color}, "pattern": stripes}


def _surface(mark: Surface, plot: Plot) -> go.Contour | go.Heatmap:
    assert plot.scale is not None  # a surface without a scale has no meaning
    low, high, levels = plot.scale.low, plot.scale.high, plot.scale.levels
    # Contours and heat maps with a common colour axis would draw two colour bars, so each has its own scale.
    first = next(other for panel in plot.panels for other in panel.marks if isinstance(other, Surface))
    colors: dict[str, Any] = {
        "colorscale": list(palette.SEQUENTIAL),
        "zmin": low,
        "zmax": high,
        "showscale": mark is first,
        "colorbar": _color_bar(plot.scale),
    }
    if mark.stepped:
        return go.Heatmap(
            x=list(mark.x),
            y=list(mark.y),
            z=[list(row) for row in mark.z],
            hoverongaps=False,
            hovertemplate="%{z:.2f} %<extra></extra>",
            **colors,
        )
    return go.Contour(
        x=list(mark.x),
        y=list(mark.y),
        z=[list(row) for row in mark.z],
        contours={"start": levels[0], "end": levels[-1], "size": levels[1] - levels[0]},
        line={"width": 0.4, "color": "#ffffff"},
        connectgaps=False,
        hovertemplate="%{z:.2f} %<extra></extra>",
        **colors,
    )


_TRACES: dict[type, Callable[[Any, Plot], Any]] = {Lines: _lines, Points: _points, Bars: _bars, Surface: _surface}
