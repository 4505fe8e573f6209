"""One magnitude scale for RandAugment, and how to get to the scales of other implementations.

The canonical magnitude is google/automl's (efficientnetv2/autoaugment.py, `_MAX_LEVEL = 10`): 0 to 10, and
above 10 every argument goes on linearly, as in the EfficientNetV2 paper's 15 to 25 (arXiv 2104.00298, table
6). What a magnitude M means to each operation here, in timm's `rand-mM` and in torchvision's `RandAugment`
at bin 3M of 0 to 30:

- rotate: +-3M degrees. timm and torchvision alike.
- shear_x, shear_y: +-0.03M, about the top left corner. timm and torchvision alike.
- translate_x, translate_y: +-0.045M of the side. timm alike; torchvision 0.0453M, whole pixels; google 10M
  pixels whatever the size, 0.0446M at its default 224.
- posterize: keeps int(0.4M) bits, so it weakens as M grows; here 1 to 8. timm alike, 0 bits too;
  timm's `inc1` 4 - int(0.4M); torchvision 8 - round(0.4M), both stronger as M grows.
- solarize: inverts from int(25.6M) on, so it weakens as M grows. timm alike; `inc1` 256 less that;
  torchvision from 255 - 25.5M on, both stronger as M grows.
- solarize_add: adds int(11M) to values below 128. timm alike, at most 128; torchvision has none.
- color, contrast, brightness, sharpness: factor 0.1 + 0.18M, so M = 5 changes nothing. timm alike; `inc1`
  1 +- 0.09M, at least 0.1; torchvision 1 +- 0.09M.
- cutout: a square of side 2 int(4M) at 224 pixels. timm and torchvision have none.
- autocontrast, equalize, invert: no argument. torchvision has identity instead of invert.

torchvision and `inc1` thus grow stronger with M where Google's weakens; rotation, shear and translation,
which move the most pixels, agree. timm applies each operation with probability 0.5 unless told `p1.0`,
truncates M to an integer and clips it to 10 unless told `mmax`. kornia's 0 to 30 is torchvision's bin.
"""

from __future__ import annotations

import math

from torch import Tensor

TIMM_MAX = 30
"""The bound handed to timm, which else clips at 10; the greatest magnitude a configuration admits."""


def to_timm(magnitude: float, *, layers: int, std: float = 0.0) -> str:
    """timm's `auto_augment` string for a canonical magnitude from 0 to 30, rounded to timm's integers.

    `std` is the standard deviation of each operation's magnitude. Every operation drawn is applied (`p1.0`).
    Raises ValueError outside the range.
    """
    if not 0 <= magnitude <= TIMM_MAX:
        raise ValueError(f"magnitude {magnitude:g} is not within 0 to {TIMM_MAX}")
    return f"rand-m{_nearest(magnitude)}-n{layers}-p1.0-mstd{std:g}-mmax{TIMM_MAX}"


def from_timm(m: float) -> float:
    """The canonical magnitude of timm's `rand-m`: the scales are the same."""
    return float(m)


def to_torchvision(magnitude: float) -> int:
    """Nearest bin of `torchvision.transforms.RandAugment(magnitude=bin, num_magnitude_bins=31)`, 0 to 30.

    One bin is a third of a canonical step; raises ValueError above 10, where torchvision has no bins.
    """
    if not 0 <= magnitude <= 10:
        raise ValueError(f"magnitude {magnitude:g} is not within 0 to 10: torchvision's bins end at 30, which is 10")
    return _nearest(3 * magnitude)


def from_torchvision(bin: int) -> float:
    """The canonical magnitude of a torchvision bin, 0 to 30."""
    return bin / 3


def _nearest(value: float) -> int:
    return math.floor(value + 0.5)


# What a level means. Each takes float levels of any shape, canonical scale, and keeps the shape.


def rotation(level: Tensor) -> Tensor:
    """Radians."""
    return level * math.radians(3)


def shear(level: Tensor) -> Tensor:
    """Displacement per unit of distance from the edge."""
    return level * 0.03


def translation(level: Tensor) -> Tensor:
    """Share of the side."""
    return level * 0.045


def posterize_bits(level: Tensor) -> Tensor:
    """Bits kept, 1 to 8. Google's 0 bits below magnitude 2.5 would leave a black image with its label."""
    return (level * 0.4).floor().clamp(1, 8)


def solarize_threshold(level: Tensor) -> Tensor:
    """Pixel value from which on pixels are inverted; above 255 none is."""
    return (level * 25.6).floor()


def solarize_addition(level: Tensor) -> Tensor:
    """Added to pixel values below 128."""
    return (level * 11).floor()


def enhancement(level: Tensor) -> Tensor:
    """Blend factor: 0 the degenerate image, 1 the image itself, above 1 away from the degenerate one."""
    return level * 0.18 + 0.1


def cutout_half_side(level: Tensor) -> Tensor:
    """Half the square's side as a share of the image's side; Google's 4M pixels at its default 224 pixels."""
    return (level * 4).floor() / 224
