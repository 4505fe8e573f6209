"""Colour operations of RandAugment for a whole batch, one operation per image.

Pixels are float32 tensors (B, 3, H, W) holding whole numbers from 0 to 255. Most operations map each pixel
value by a table of 256 entries per image and channel, so a batch costs one gather whatever was drawn; color
and sharpness mix pixels and are blends. Every image passes through everything, with neutral settings where
its operation is another one: constant shapes, and nothing waits for the device. Kernels are counted here,
since on a GPU starting them is what augmentation costs: all arguments of all layers are worked out
together.

Rounding follows Pillow. Measured against other implementations on CIFAR-10 (see
tests/unit/trainers/test_augment_color.py): equalize, invert, posterize, solarize, solarize_add and autocontrast
equal Pillow's; the blends are within 1. Published implementations differ among themselves: torchvision's
contrast blends with the unrounded mean, Google's with the number of pixels divided by 256 instead of the
mean (its `contrast` sums the histogram's counts), and Google's sharpness truncates the blurred image where
Pillow rounds it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.augment import magnitude as scale

OPERATIONS = (
    "autocontrast",
    "equalize",
    "invert",
    "posterize",
    "solarize",
    "solarize_add",
    "color",
    "contrast",
    "brightness",
    "sharpness",
)


@dataclass(frozen=True)
class Settings:
    """What to do to each image; every tensor has the shape of the levels, and is neutral where nothing is
    due."""

    threshold: Tensor
    """Pixel values from here on are inverted; 256 is neutral."""
    step: Tensor
    """Pixel values are rounded down to multiples; 1 is neutral."""
    addition: Tensor
    """Added to pixel values below 128; 0 is neutral."""
    table_factor: Tensor
    """Blend with black, or with the mean gray where `to_mean`; 1 is neutral."""
    to_mean: Tensor
    """bool."""
    mix_factor: Tensor
    """Blend with the blurred image, or with the gray one where `to_gray`; 1 is neutral."""
    to_gray: Tensor
    """bool."""
    autocontrast: Tensor
    """bool."""
    equalize: Tensor
    """bool."""

    def layer(self, index: int) -> Settings:
        """Those of one layer, (B,), of settings (B, N)."""
        return Settings(*(value[:, index] for value in vars(self).values()))


def settings(level: Tensor, chosen: dict[str, Tensor]) -> Settings:
    """The settings of operations drawn at canonical magnitudes.

    `chosen` maps each name in `OPERATIONS` to a bool mask of the shape of `level`, any; at most one is true
    at each place.
    """
    zero, neutral = torch.zeros_like(level), torch.ones_like(level)
    untouched = torch.where(chosen["invert"], zero, torch.full_like(level, 256))
    strength = scale.enhancement(level)
    in_table, in_mix = chosen["contrast"] | chosen["brightness"], chosen["color"] | chosen["sharpness"]
    return Settings(
        threshold=torch.where(chosen["solarize"], scale.solarize_threshold(level), untouched),
        step=torch.where(chosen["posterize"], torch.exp2(8 - scale.posterize_bits(level)), neutral),
        addition=scale.solarize_addition(level) * chosen["solarize_add"],
        table_factor=torch.where(in_table, strength, neutral),
        to_mean=chosen["contrast"],
        mix_factor=torch.where(in_mix, strength, neutral),
        to_gray=chosen["color"],
        autocontrast=chosen["autocontrast"],
        equalize=chosen["equalize"],
    )


def distort(pixels: Tensor, settings: Settings) -> Tensor:
    """Do to each image what its settings, of shape (B,), say.

    `pixels` float32 (B, 3, H, W), whole numbers 0 to 255, as is the result.
    """
    index, gray = pixels.flatten(2).long(), _gray(pixels)
    # The gray and the blurred image are those before the table: where they are used, the table is neutral.
    degenerate = torch.where(_spread(settings.to_gray, 3), gray, _smooth(pixels))
    pixels = _tables(pixels, index, gray, settings).gather(2, index).view_as(pixels)
    return _blend(degenerate, pixels, _spread(settings.mix_factor, 3))


def _tables(pixels: Tensor, index: Tensor, gray: Tensor, settings: Settings) -> Tensor:
    """Per image and channel the value that replaces each value: float32 (B, 3, 256)."""
    value = torch.arange(256, dtype=torch.float32, device=pixels.device)
    # One after another on one table that all channels share, since all but one leave it as it is.
    table = torch.where(value < _spread(settings.threshold, 2), value, 255 - value)
    step = _spread(settings.step, 2)
    table = (table / step).floor_().mul_(step)
    table = torch.addcmul(table, _spread(settings.addition, 2), (table < 128).float()).clamp_(max=255)
    mean_gray = (gray.mean((2, 3)) + 0.5).floor_()[:, :, None] * _spread(settings.to_mean, 2)
    table = _blend(mean_gray, table, _spread(settings.table_factor, 2))
    table = torch.where(_spread(settings.autocontrast, 2), _autocontrast(pixels, value), table)
    return torch.where(_spread(settings.equalize, 2), _equalize(index, value), table)


def _spread(values: Tensor, dimensions: int) -> Tensor:
    """(B,) with so many dimensions of size 1 behind."""
    return values[(...,) + (None,) * dimensions]


def _blend(degenerate: Tensor, original: Tensor, factor: Tensor) -> Tensor:
    """Pillow's `Image.blend`: towards or away from the degenerate image, clipped, then truncated."""
    return torch.addcmul(degenerate, factor, original - degenerate).clamp_(0, 255).floor_()


def _gray(pixels: Tensor) -> Tensor:
    """(B, 1, H, W), Pillow's mode L: ITU-R 601 luma in 16-bit fixed point, which float32 holds exactly."""
    red, green, blue = pixels.unbind(1)
    luma = (red * (19595 / 65536)).add_(green, alpha=38470 / 65536).add_(blue, alpha=7471 / 65536)
    return luma.add_(0.5).floor_().unsqueeze(1)


def _smooth(pixels: Tensor) -> Tensor:
    """Pillow's SMOOTH: each neighbour once, the pixel itself five times, rounded; the border stays as it
    is."""
    rows = (pixels[:, :, :-2] + pixels[:, :, 1:-1]).add_(pixels[:, :, 2:])
    box = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:])
    result = pixels.clone()
    inner = pixels[:, :, 1:-1, 1:-1]
    result[:, :, 1:-1, 1:-1] = box.add_(inner, alpha=4).div_(13).add_(0.5).floor_()
    return result


def _autocontrast(pixels: Tensor, value: Tensor) -> Tensor:
    """Stretch each channel to 0..255. Double precision, or truncation takes 1 off where Pillow does not."""
    low, high = (bound.double()[:, :, None] for bound in (pixels.amin((2, 3)), pixels.amax((2, 3))))
    # A number over a tensor would be computed as its reciprocal times the number, which rounds twice.
    stretch = torch.full_like(low, 255) / (high - low).clamp(min=1)
    table = (value * stretch - low * stretch).clamp_(0, 255).floor_().float()
    return torch.where(high > low, table, value)


def _equalize(index: Tensor, value: Tensor) -> Tensor:
    """Flatten each channel's histogram with Pillow's integer arithmetic."""
    counts = torch.zeros((*index.shape[:2], 256), dtype=torch.int64, device=index.device)
    counts.scatter_add_(2, index, torch.ones_like(index))
    brightest = counts.gather(2, index.amax(2, keepdim=True))
    step = (index.shape[2] - brightest) // 255
    below = counts.cumsum(2) - counts
    table = ((step // 2 + below) // step.clamp(min=1)).clamp_(max=255).float()
    return torch.where(step > 0, table, value)
