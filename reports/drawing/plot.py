"""The description of a figure, without the library that draws it: one description for the page and for the PNG.

Positions are plain numbers. `reports.figures.scales` computes the positions and the ticks of logarithmic and
categorical parameters. Texts are plain: `reports.drawing.plotly_page` escapes them, and `reports.drawing.png` turns
math mode off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Dash: TypeAlias = Literal["solid", "dash", "dot"]
Symbol: TypeAlias = Literal["circle", "x", "triangle-up", "diamond", "star", "square"]
Numbers: TypeAlias = Sequence[float]


@dataclass(frozen=True)
class Axis:
    """One axis. `title` names the quantity and its unit."""

    title: str
    span: tuple[float, float] | None = None
    """The visible range; None for the range of the data."""
    ticks: Sequence[tuple[float, str]] | None = None
    """(position, label); None lets the library choose them."""


@dataclass(frozen=True)
class Lines:
    """Curves that share a name, a colour and an entry in the legend."""

    name: str
    paths: Sequence[tuple[Numbers, Numbers]]
    """(x, y) of each curve."""
    color: str
    width: float = 1.5
    dash: Dash = "solid"
    opacity: float = 1.0
    steps: bool = False
    """Draw steps: each value stays until the next one."""
    hover: Sequence[str] = ()
    """One text per curve."""
    legend: bool = True


@dataclass(frozen=True)
class Points:
    """Points. With `values` they take their colours from the scale of the plot instead of `color`."""

    name: str
    x: Numbers
    y: Numbers
    color: str = ""
    values: Numbers | None = None
    symbol: Symbol = "circle"
    size: float = 7
    opacity: float = 0.9
    hover: Sequence[str] = ()
    """One text per point."""
    labels: Sequence[str] = ()
    """Texts to write in place of the points."""
    legend: bool = True


@dataclass(frozen=True)
class Bars:
    """Bars from `starts` to `starts + lengths`, centred at `positions` on the other axis."""

    name: str
    positions: Numbers
    lengths: Numbers
    color: str
    starts: Numbers | None = None
    horizontal: bool = False
    thickness: float = 0.7
    texts: Sequence[str] = ()
    """Texts to write inside the bars."""
    hover: Sequence[str] = ()
    legend: bool = True
    hatched: bool = False
    """Draw stripes: the lengths are rough."""


@dataclass(frozen=True)
class Surface:
    """Values over a grid, coloured by the scale of the plot. None: unknown."""

    x: Numbers
    y: Numbers
    z: Sequence[Sequence[float | None]]
    """One row per `y`, one column per `x`."""
    stepped: bool = False
    """Draw cells instead of contour lines, because there is nothing between two choices."""


@dataclass(frozen=True)
class Rule:
    """A thin line across the panel."""

    at: float
    label: str = ""
    vertical: bool = True
    dash: Dash = "dot"
    raised: bool = False
    """Write the label in a second row, above a label at the same place."""


Mark: TypeAlias = Lines | Points | Bars | Surface


@dataclass(frozen=True)
class Panel:
    """One pair of axes and the marks on them, from back to front."""

    x: Axis
    y: Axis
    marks: Sequence[Mark]
    title: str = ""
    rules: Sequence[Rule] = ()


@dataclass(frozen=True)
class ColorScale:
    """The range of values that the colours of `Points.values` and `Surface.z` cover."""

    title: str
    low: float
    high: float

    @property
    def levels(self) -> list[float]:
        """About ten round values from `low` to `high`, for contour lines."""
        rough = (self.high - self.low) / 10
        decade = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * decade for factor in (1, 2, 5, 10) if factor * decade >= rough * 0.999)
        first = math.ceil(self.low / step)
        return [index * step for index in range(first, math.floor(self.high / step) + 1)]


@dataclass(frozen=True)
class Plot:
    """One figure: panels in rows of `columns`."""

    key: str
    """Name of its PNG and of its section on the page; lower-case letters, digits and dashes."""
    title: str
    panels: Sequence[Panel]
    caption: str = ""
    columns: int = 1
    height: int = 380
    """Pixels of one row of panels."""
    scale: ColorScale | None = None
    least_width: int = 0
    """Pixels below which its texts would overlap: a narrower page scrolls it. 0: it fits any phone."""


@dataclass(frozen=True)
class Missing:
    """A figure that cannot be drawn yet, and why."""

    title: str
    reason: str
