"""The magnitude scale of RandAugment, and its relation to the scales of other implementations.

The canonical magnitude M is that of google/automl (efficientnetv2/autoaugment.py, `_MAX_LEVEL = 10`): 0 to 10. Above
10 every argument grows linearly, as for the 15 to 25 of the EfficientNetV2 paper (arXiv 2104.00298, table 6). The
list gives the effect of M here, in timm (`rand-mM`) and in torchvision (`RandAugment` at bin 3M of 0 to 30):

- rotate: +-3M degrees. timm and torchvision: the same.
- shear_x, shear_y: +-0.03M, about the top left corner. timm and torchvision: the same.
- translate_x, translate_y: +-0.045M of the side. timm: the same. torchvision: 0.0453M, whole pixels. Google: 10M
  pixels at every size, which is 0.0446M at its default size 224.
- posterize: keeps int(0.4M) bits, here 1 to 8, so it weakens as M grows. timm: the same, but 0 bits are possible.
  timm's `inc1`: 4 - int(0.4M). torchvision: 8 - round(0.4M). The last two grow stronger with M.
- solarize: inverts pixel values from int(25.6M), so it weakens as M grows. timm: the same. `inc1`: from 256 minus that.
  torchvision: from 255 - 25.5M. The last two grow stronger with M.
- solarize_add: adds int(11M) to values below 128. timm: the same, at most 128. torchvision: no such operation.
- color, contrast, brightness, sharpness: factor 0.1 + 0.18M, so M = 5 changes nothing. timm: the same. `inc1`:
  1 +- 0.09M, at least 0.1. torchvision: 1 +- 0.09M.
- cutout: a square of side 2 int(4M) at 224 pixels. timm and torchvision: no such operation.
- autocontrast, equalize, invert: no argument. torchvision: identity instead of invert.

In short, some operations of torchvision and `inc1` grow stronger with M where Google's grow weaker. Rotation, shear
and translation, which change most pixels, agree. timm applies each operation with probability 0.5 (without `p1.0`),
truncates M to an integer and clips it to 10 (without `mmax`). kornia's scale, 0 to 30, is torchvision's bin.

So Google's form has a cliff at 0: as soon as M is above 0, an image changes as much as at M = 5 (mean change of a
pixel on CIFAR-10: 0 at 0, about 49 from 0.05 to 5, 64 at 10). The increasing form has none, because every operation
begins at no effect:

- posterize: keeps 8 - int(0.4M) bits, at least 1, as torchvision does.
- solarize: inverts pixel values from 256 - int(25.6M), as `inc1` does.
- color, contrast, brightness, sharpness: factor 1 +- 0.09M, at least 0.1, as `inc1` does.
- autocontrast, equalize, invert: applied with probability M / 5, from M = 5 on always. This is our own rule: other
  increasing forms apply them in full at every M.
- all others: as above, since they begin at no effect already.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

TIMM_MAX = 30
"""The largest magnitude of a configuration. timm needs it as `mmax`, because it clips at 10 otherwise."""


def to_timm(magnitude: float, *, layers: int, std: float = 0.0, increasing: bool = False) -> str:
    """Return timm's `auto_augment` string for a canonical magnitude (0 to 30), rounded to an integer (half up).

    `layers` is the number of operations per image and `std` the standard deviation of each operation's magnitude. Every
    drawn operation is applied (`p1.0`). `increasing` gives timm's `inc1`, which resembles the increasing form.

    Raises:
        ValueError: the magnitude is out of range.
    """
    if not 0 <= magnitude <= TIMM_MAX:
        raise ValueError(f"RandAugment magnitude {magnitude:g} is not between 0 and {TIMM_MAX}")
    name = f"rand-m{math.floor(magnitude + 0.5)}-n{layers}-p1.0-mstd{std:g}-mmax{TIMM_MAX}"
    return f"{name}-inc1" if increasing else name


@dataclass(frozen=True)
class ColorArguments:
    """The arguments of the colour operations in which the two forms differ. Tensors have the shape of the levels."""

    bits: Tensor
    """Bits that posterize keeps, 1 to 8."""
    threshold: Tensor
    """Least pixel value (0 to 255) that solarize inverts; above 255 it inverts nothing."""
    factor: Tensor
    """Blend factor of color, contrast, brightness and sharpness: see `enhancement`."""
    chance: Tensor
    """Probability, or more, that autocontrast, equalize and invert are applied once drawn; from 1 on always."""


def published(level: Tensor, sign: Tensor) -> ColorArguments:
    """Google's arguments; the sign plays no part."""
    return ColorArguments(
        posterize_bits(level), solarize_threshold(level), enhancement(level), chance=torch.ones_like(level)
    )


def increasing(level: Tensor, sign: Tensor) -> ColorArguments:
    """Arguments whose effect grows from none at level 0; `sign`, -1 or 1, is the direction of the blends."""
    return ColorArguments(
        bits=(8 - (level * 0.4).floor()).clamp(1, 8),
        threshold=256 - (level * 25.6).floor(),
        factor=(1 + sign * level * 0.09).clamp(min=0.1),
        chance=level / 5,
    )


FORMS = {"published": published, "increasing": increasing}
"""By their names in `trainers.config.Augment.randaugment_form`."""


# The argument of each operation for a level. Levels are float tensors on the canonical scale; the shape is kept.


def rotation(level: Tensor) -> Tensor:
    """Angle, radians."""
    return level * math.radians(3)


def shear(level: Tensor) -> Tensor:
    """Shift per unit of distance from the edge."""
    return level * 0.03


def translation(level: Tensor) -> Tensor:
    """Shift as a share of the side."""
    return level * 0.045


def posterize_bits(level: Tensor) -> Tensor:
    """Bits kept, 1 to 8. Google keeps 0 bits below magnitude 2.5, which makes the image black."""
    return (level * 0.4).floor().clamp(1, 8)


def solarize_threshold(level: Tensor) -> Tensor:
    """Least pixel value (0 to 255) that is inverted; above 255 nothing is inverted."""
    return (level * 25.6).floor()


def solarize_addition(level: Tensor) -> Tensor:
    """Number added to pixel values below 128."""
    return (level * 11).floor()


def enhancement(level: Tensor) -> Tensor:
    """Blend factor: 0 gives the degenerate image, 1 the image itself; above 1 extrapolates away from the former."""
    return level * 0.18 + 0.1


def cutout_half_side(level: Tensor) -> Tensor:
    """Half the side of the square as a share of the image's side: Google's 4M pixels at its default size 224."""
    return (level * 4).floor() / 224
