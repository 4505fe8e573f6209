"""Colours that people with any colour vision can distinguish: after Okabe and Ito, without green beside red.

All have a medium lightness, so that one set suits a light and a dark page: their contrast to both is at least 3 to 1,
which WCAG 2.2 asks of graphics (criterion 1.4.11). Thin lines and small points are therefore nearly opaque. The shape
of a point or the dash of a line always repeats what the colour says.
"""

from __future__ import annotations

from reports.drawing.plot import Dash, Symbol

BLUE, ORANGE, GREY, VERMILION, PURPLE, SKY = "#2477b3", "#c78400", "#7f8690", "#d55e00", "#b07aa1", "#3a9ad2"
SLATE = "#6b7280"

STATUS_COLOR = {
    "complete": BLUE,
    "pruned": GREY,
    "stopped": SLATE,
    "failed": VERMILION,
    "interrupted": PURPLE,
    "running": SKY,
    "waiting": GREY,
}
STATUS_SYMBOL: dict[str, Symbol] = {
    "complete": "circle",
    "pruned": "diamond",
    "stopped": "square",
    "failed": "x",
    "interrupted": "square",
    "running": "triangle-up",
    "waiting": "circle",
}
BEST = ORANGE
BASELINE = PURPLE

STUDY_COLOR = (BLUE, ORANGE, PURPLE, GREY, SKY, VERMILION)
STUDY_SYMBOL: tuple[Symbol, ...] = ("circle", "square", "diamond", "triangle-up", "x", "star")
STUDY_DASH: tuple[Dash, ...] = ("solid", "dash", "dot")

FIFTHS = ((BLUE, 0.95), ("#4f88b4", 0.9), ("#74879a", 0.9), ("#858585", 0.9), ("#8c857c", 0.9))
"""(colour, opacity) from the best fifth to the worst: better trials stand out, on a light and on a dark page."""
DARK_INK, LIGHT_INK = "#1d2129", "#ffffff"


def ink_on(color: str) -> str:
    """A text colour that is legible on `color`."""
    red, green, blue = _channels(color)
    return DARK_INK if 0.299 * red + 0.587 * green + 0.114 * blue > 125 else LIGHT_INK


def lighter(color: str, share: float = 0.4) -> str:
    """This share of `color` mixed with white, for less important marks."""
    return "#" + "".join(f"{255 - int((255 - channel) * share):02x}" for channel in _channels(color))


def _channels(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


SEQUENTIAL = ("#3f63a8", "#74809a", "#a39b82", "#d0b850", "#f5dc2e")
"""Low to high, with rising lightness: Cividis without the end that cannot be seen on a dark page."""


def study_color(index: int) -> str:
    """The colour of the study at this place of the comparison."""
    return STUDY_COLOR[index % len(STUDY_COLOR)]


def study_symbol(index: int) -> Symbol:
    """The shape of that study's points."""
    return STUDY_SYMBOL[index % len(STUDY_SYMBOL)]


def study_dash(index: int) -> Dash:
    """The dash of that study's lines; it differs among studies that share a colour."""
    return STUDY_DASH[index % len(STUDY_DASH)]
