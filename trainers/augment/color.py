"""Colour operations of RandAugment for a whole batch, one operation per image.

Pixels are float32 tensors (B, 3, H, W) holding whole numbers from 0 to 255. Most operations map each pixel
value by a table of 256 entries per image and channel, so a batch costs one gather whatever was drawn; color
and sharpness mix pixels and are blends. Every image passes through both, with an identity table or a factor
of 1 where its operation is another one: constant shapes, and nothing waits for the device.

Rounding follows Pillow. Measured against other implementations on CIFAR-10 (see
tests/unit/test_augment_color.py): equalize, invert, posterize, solarize, solarize_add and autocontrast
equal Pillow's; the blends are within 1. Published implementations differ among themselves: torchvision's
contrast blends with the unrounded mean, Google's with the number of pixels divided by 256 instead of the
mean (its `contrast` sums the histogram's counts), and Google's sharpness truncates the blurred image where
Pillow rounds it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.augment import magnitude as scale

TABLE_OPERATIONS = (
    "invert",
    "posterize",
    "solarize",
    "solarize_add",
    "contrast",
    "brightness",
    "autocontrast",
    "equalize",
)
"""In this order the tables that all channels share come first, at a third of the work."""
MIXING_OPERATIONS = ("color", "sharpness")


def distort(pixels: Tensor, level: Tensor, chosen: dict[str, Tensor]) -> Tensor:
    """Apply to each image the one colour operation chosen for it, if any.

    `pixels` float32 (B, 3, H, W), whole numbers 0 to 255; `level` (B,), canonical magnitudes; `chosen` maps
    each name in `TABLE_OPERATIONS` and `MIXING_OPERATIONS` to a bool mask (B,), of which at most one is
    true per image.
    """
    index = pixels.flatten(2).long()
    tables = _tables(pixels, index, level, chosen)
    pixels = tables.gather(2, index).view_as(pixels)
    return _mix(pixels, level, chosen)


def _tables(pixels: Tensor, index: Tensor, level: Tensor, chosen: dict[str, Tensor]) -> Tensor:
    """Per image and channel the value that replaces each value: float32 (B, 3, 256)."""
    value = torch.arange(256, dtype=torch.float32, device=pixels.device)
    one = level[:, None, None]
    candidates = {
        "invert": 255 - value,
        "posterize": _posterize(value, scale.posterize_bits(one)),
        "solarize": torch.where(value < scale.solarize_threshold(one), value, 255 - value),
        "solarize_add": torch.where(value < 128, (value + scale.solarize_addition(one)).clamp(0, 255), value),
        "contrast": _blend(_mean_gray(pixels), value, scale.enhancement(one)),
        "brightness": _blend(torch.zeros_like(one), value, scale.enhancement(one)),
        "autocontrast": _autocontrast(pixels, value),
        "equalize": _equalize(index, value),
    }
    tables = value.expand(len(pixels), 1, 256)
    for name in TABLE_OPERATIONS:
        tables = torch.where(chosen[name][:, None, None], candidates[name], tables)
    return tables


def _mix(pixels: Tensor, level: Tensor, chosen: dict[str, Tensor]) -> Tensor:
    color, sharpness = (chosen[name][:, None, None, None] for name in MIXING_OPERATIONS)
    strength = scale.enhancement(level)[:, None, None, None]
    factor = torch.where(color | sharpness, strength, torch.ones_like(strength))
    return _blend(torch.where(color, _gray(pixels), _smooth(pixels)), pixels, factor)


def _blend(degenerate: Tensor, original: Tensor, factor: Tensor) -> Tensor:
    """Pillow's `Image.blend`: towards or away from the degenerate image, clipped, then truncated."""
    return torch.addcmul(degenerate, factor, original - degenerate).clamp_(0, 255).floor_()


def _gray(pixels: Tensor) -> Tensor:
    """(B, 1, H, W), Pillow's mode L: ITU-R 601 luma in 16-bit fixed point, which float32 holds exactly."""
    red, green, blue = pixels.unbind(1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 32768) / 65536).floor_().unsqueeze(1)


def _mean_gray(pixels: Tensor) -> Tensor:
    """(B, 1, 1), rounded to a whole number."""
    return (_gray(pixels).mean((2, 3), dtype=torch.float64) + 0.5).floor().float()[:, :, None]


def _smooth(pixels: Tensor) -> Tensor:
    """Pillow's SMOOTH: every neighbour once, the pixel itself five times, rounded; the border stays as it
    is."""
    rows = pixels[:, :, :-2] + pixels[:, :, 1:-1] + pixels[:, :, 2:]
    box = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    result = pixels.clone()
    result[:, :, 1:-1, 1:-1] = (box + pixels[:, :, 1:-1, 1:-1] * 4).div_(13).add_(0.5).floor_()
    return result


def _posterize(value: Tensor, bits: Tensor) -> Tensor:
    step = torch.exp2(8 - bits)
    return (value / step).floor() * step


def _autocontrast(pixels: Tensor, value: Tensor) -> Tensor:
    """Stretch each channel to 0..255. Double precision, or truncation takes 1 off where Pillow does not."""
    low, high = pixels.amin((2, 3)).double()[:, :, None], pixels.amax((2, 3)).double()[:, :, None]
    # A number over a tensor would be computed as its reciprocal times the number, which rounds twice.
    stretch = torch.full_like(low, 255) / (high - low).clamp(min=1)
    table = (value.double() * stretch + -low * stretch).clamp(0, 255).floor().float()
    return torch.where(high > low, table, value)


def _equalize(index: Tensor, value: Tensor) -> Tensor:
    """Flatten each channel's histogram with Pillow's integer arithmetic."""
    counts = torch.zeros((*index.shape[:2], 256), dtype=torch.int64, device=index.device)
    counts.scatter_add_(2, index, torch.ones_like(index))
    brightest = counts.gather(2, index.amax(2, keepdim=True))
    step = (index.shape[2] - brightest) // 255
    below = counts.cumsum(2) - counts
    table = ((step // 2 + below) // step.clamp(min=1)).clamp(0, 255).float()
    return torch.where(step > 0, table, value)
