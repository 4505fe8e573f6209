"""What a figure shows, apart from the library that draws it: one description for the page and for the PNG.

Positions are plain numbers; logarithmic and categorical parameters are placed by
`reports.figures.scales` and bring their own ticks. Texts are plain:
`reports.drawing.plotly_page` escapes them, `reports.drawing.png` switches math mode off.
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
    """One axis. `title` names quantity and unit."""

    title: str
    span: tuple[float, float] | None = None
    """What is visible at first; None for all of the data."""
    ticks: Sequence[tuple[float, str]] | None = None
    """(position, label); None leaves them to the library."""


@dataclass(frozen=True)
class Lines:
    """Curves that share a name, a colour and a switch in the legend."""

    name: str
    paths: Sequence[tuple[Numbers, Numbers]]
    """(x, y) of each curve."""
    color: str
    width: float = 1.5
    dash: Dash = "solid"
    opacity: float = 1.0
    steps: bool = False
    """Keep a value until the next one."""
    hover: Sequence[str] = ()
    """One text per curve."""
    legend: bool = True


@dataclass(frozen=True)
class Points:
    """A cloud. With `values` the plot's colour scale applies instead of `color`."""

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
    """Written at the points."""
    legend: bool = True


@dataclass(frozen=True)
class Bars:
    """Bars from `starts` to `starts + lengths`, centred at `positions` of the other axis."""

    name: str
    positions: Numbers
    lengths: Numbers
    color: str
    starts: Numbers | None = None
    horizontal: bool = False
    thickness: float = 0.7
    texts: Sequence[str] = ()
    """Written inside."""
    hover: Sequence[str] = ()
    legend: bool = True


@dataclass(frozen=True)
class Surface:
    """Values over a grid, coloured by the plot's scale; None where nothing is known."""

    x: Numbers
    y: Numbers
    z: Sequence[Sequence[float | None]]
    """(len(y), len(x))."""
    stepped: bool = False
    """Draw cells instead of contour lines: nothing lies between two choices."""


@dataclass(frozen=True)
class Rule:
    """A thin line across the panel."""

    at: float
    label: str = ""
    vertical: bool = True
    dash: Dash = "dot"
    raised: bool = False
    """Write the label in a second row, above those that stand at the same place."""


Mark: TypeAlias = Lines | Points | Bars | Surface


@dataclass(frozen=True)
class Panel:
    """One pair of axes and what is drawn on them, from back to front."""

    x: Axis
    y: Axis
    marks: Sequence[Mark]
    title: str = ""
    rules: Sequence[Rule] = ()


@dataclass(frozen=True)
class ColorScale:
    """How `Points.values` and `Surface.z` become colours."""

    title: str
    low: float
    high: float

    @property
    def levels(self) -> list[float]:
        """About ten round values from `low` to `high`, for contour lines."""
        rough = (self.high - self.low) / 10
        decade = 10.0 ** math.floor(math.log10(rough))
        step = next(one * decade for one in (1, 2, 5, 10) if one * decade >= rough * 0.999)
        first = math.ceil(self.low / step)
        return [index * step for index in range(first, math.floor(self.high / step) + 1)]


@dataclass(frozen=True)
class Plot:
    """One figure: panels in rows of `columns`."""

    key: str
    """Name of its file and of its place on the page; lower-case letters and dashes."""
    title: str
    panels: Sequence[Panel]
    caption: str = ""
    columns: int = 1
    height: int = 380
    """Pixels of one row of panels."""
    scale: ColorScale | None = None


@dataclass(frozen=True)
class Missing:
    """A figure that cannot be drawn yet, and why."""

    title: str
    reason: str
