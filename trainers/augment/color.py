"""Colour operations of RandAugment for a whole batch, one operation per image.

Pixels are float32 tensors (B, 3, H, W) with whole numbers from 0 to 255. Most operations map each pixel value with a
table of 256 entries per image and channel, so a batch costs one gather, whatever was drawn. The operations color and
sharpness mix pixels and are blends. Every image passes through all steps, with neutral settings for other operations.
So shapes are constant, and nothing waits for the device. The code keeps the number of kernels small, because starting
kernels is the main cost of augmentation on a GPU: it computes the arguments of all layers together.

Rounding follows Pillow. Comparison with other implementations on CIFAR-10 (tests/unit/trainers/test_augment_color.py):
equalize, invert, posterize, solarize, solarize_add and autocontrast equal Pillow's; the blends differ by at most 1.
Published implementations differ from each other. torchvision's contrast blends with the unrounded mean. Google's
contrast uses the number of pixels divided by 256 instead of the mean, because it sums the counts of the histogram.
Google's sharpness truncates the blurred image; Pillow rounds it.
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
    """The operations on each image. Every tensor has the shape of the levels; a neutral value changes nothing."""

    threshold: Tensor
    """Least pixel value that is inverted; neutral: 256."""
    step: Tensor
    """Pixel values are rounded down to multiples of this; neutral: 1."""
    addition: Tensor
    """Number added to pixel values below 128; neutral: 0."""
    table_factor: Tensor
    """Factor of the blend with black, or with the mean gray if `to_mean`; neutral: 1."""
    to_mean: Tensor
    """bool: contrast."""
    mix_factor: Tensor
    """Factor of the blend with the blurred image, or with the gray image if `to_gray`; neutral: 1."""
    to_gray: Tensor
    """bool: color."""
    autocontrast: Tensor
    """bool."""
    equalize: Tensor
    """bool."""

    def layer(self, index: int) -> Settings:
        """Return the settings of one layer, (B,), from settings (B, N)."""
        return Settings(*(value[:, index] for value in vars(self).values()))


def settings(level: Tensor, chosen: dict[str, Tensor], arguments: scale.ColorArguments | None = None) -> Settings:
    """Return the settings for operations at the canonical magnitudes `level`, a float tensor of any shape.

    `chosen` maps each name in `OPERATIONS` to a bool mask of the same shape; at most one mask is true at each place.
    Without `arguments` they are those of the published form.
    """
    arguments = arguments or scale.published(level, level)
    zero, neutral = torch.zeros_like(level), torch.ones_like(level)
    untouched = torch.where(chosen["invert"], zero, torch.full_like(level, 256))
    strength = arguments.factor
    in_table, in_mix = chosen["contrast"] | chosen["brightness"], chosen["color"] | chosen["sharpness"]
    return Settings(
        threshold=torch.where(chosen["solarize"], arguments.threshold, untouched),
        step=torch.where(chosen["posterize"], torch.exp2(8 - arguments.bits), neutral),
        addition=scale.solarize_addition(level) * chosen["solarize_add"],
        table_factor=torch.where(in_table, strength, neutral),
        to_mean=chosen["contrast"],
        mix_factor=torch.where(in_mix, strength, neutral),
        to_gray=chosen["color"],
        autocontrast=chosen["autocontrast"],
        equalize=chosen["equalize"],
    )


def distort(pixels: Tensor, settings: Settings) -> Tensor:
    """Apply the operation of each image; `settings` has the shape (B,).

    `pixels` and the result are float32 (B, 3, H, W) with whole numbers from 0 to 255.
    """
    index, gray = pixels.flatten(2).long(), _gray(pixels)
    # Gray and blurred images are made before the table is applied: where they are used, the table is neutral.
    degenerate = torch.where(_spread(settings.to_gray, 3), gray, _smooth(pixels))
    pixels = _tables(pixels, index, gray, settings).gather(2, index).view_as(pixels)
    return _blend(degenerate, pixels, _spread(settings.mix_factor, 3))


def _tables(pixels: Tensor, index: Tensor, gray: Tensor, settings: Settings) -> Tensor:
    """The new value of each pixel value, per image and channel: float32 (B, 3, 256)."""
    value = torch.arange(256, dtype=torch.float32, device=pixels.device)
    # All steps work on one table that the channels share, because all except one leave it unchanged.
    table = torch.where(value < _spread(settings.threshold, 2), value, 255 - value)
    step = _spread(settings.step, 2)
    table = (table / step).floor_().mul_(step)
    table = torch.addcmul(table, _spread(settings.addition, 2), (table < 128).float()).clamp_(max=255)
    mean_gray = (gray.mean((2, 3)) + 0.5).floor_()[:, :, None] * _spread(settings.to_mean, 2)
    table = _blend(mean_gray, table, _spread(settings.table_factor, 2))
    table = torch.where(_spread(settings.autocontrast, 2), _autocontrast(pixels, value), table)
    return torch.where(_spread(settings.equalize, 2), _equalize(index, value), table)


def _spread(values: Tensor, dimensions: int) -> Tensor:
    """(B,) with this number of dimensions of size 1 appended."""
    return values[(...,) + (None,) * dimensions]


def _blend(degenerate: Tensor, original: Tensor, factor: Tensor) -> Tensor:
    """Pillow's `Image.blend`: between the degenerate and the original image or beyond, clipped, then truncated."""
    return torch.addcmul(degenerate, factor, original - degenerate).clamp_(0, 255).floor_()


def _gray(pixels: Tensor) -> Tensor:
    """(B, 1, H, W): Pillow's mode L, the ITU-R 601 luma in 16-bit fixed point, which float32 represents exactly."""
    red, green, blue = pixels.unbind(1)
    luma = (red * (19595 / 65536)).add_(green, alpha=38470 / 65536).add_(blue, alpha=7471 / 65536)
    return luma.add_(0.5).floor_().unsqueeze(1)


def _smooth(pixels: Tensor) -> Tensor:
    """Pillow's SMOOTH: the rounded mean of each neighbour once and the pixel five times. The border is unchanged."""
    rows = (pixels[:, :, :-2] + pixels[:, :, 1:-1]).add_(pixels[:, :, 2:])
    box = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:])
    result = pixels.clone()
    inner = pixels[:, :, 1:-1, 1:-1]
    result[:, :, 1:-1, 1:-1] = box.add_(inner, alpha=4).div_(13).add_(0.5).floor_()
    return result


def _autocontrast(pixels: Tensor, value: Tensor) -> Tensor:
    """Stretch each channel to 0 to 255, in double precision: otherwise truncation may give 1 less than Pillow."""
    low, high = (bound.double()[:, :, None] for bound in (pixels.amin((2, 3)), pixels.amax((2, 3))))
    # torch computes a number divided by a tensor as a reciprocal times the number, which rounds twice.
    stretch = torch.full_like(low, 255) / (high - low).clamp(min=1)
    table = (value * stretch - low * stretch).clamp_(0, 255).floor_().float()
    return torch.where(high > low, table, value)


def _equalize(index: Tensor, value: Tensor) -> Tensor:
    """Flatten the histogram of each channel with Pillow's integer arithmetic."""
    counts = torch.zeros((*index.shape[:2], 256), dtype=torch.int64, device=index.device)
    counts.scatter_add_(2, index, torch.ones_like(index))
    brightest = counts.gather(2, index.amax(2, keepdim=True))
    step = (index.shape[2] - brightest) // 255
    below = counts.cumsum(2) - counts
    table = ((step // 2 + below) // step.clamp(min=1)).clamp_(max=255).float()
    return torch.where(step > 0, table, value)
