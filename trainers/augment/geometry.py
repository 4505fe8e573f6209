"""Geometric operations as affine maps, combined into one sampling of each image.

Coordinates run from -1 to 1 between the outer edges of a frame (`align_corners=False`). A map takes a point of the
result to the point of the source that it shows, so the map of "first f, then g" is F @ G. Compared with Pillow's
bilinear `Image.transform` and with torchvision's crops, pixel values differ by at most 1/255 where both sample inside
the image (tests/unit/trainers/test_augment_geometry.py). Sampling is always bilinear here. Google and, by default,
torchvision take the nearest pixel; timm chooses bilinear or bicubic sampling at random.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.augment import magnitude as scale

GEOMETRIC_OPERATIONS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
ATTEMPTS = 10
"""Attempts to draw the shape of a rectangle before the fallback, as in torchvision."""


def maps(level: Tensor, chosen: dict[str, Tensor]) -> Tensor:
    """Return the maps (..., 3, 3) of the chosen operations, with the identity where no operation was chosen.

    `level` contains signed canonical magnitudes and has any shape (...). `chosen` maps each name in
    `GEOMETRIC_OPERATIONS` to a bool mask of that shape.
    """
    angle = scale.rotation(level) * chosen["rotate"]
    slant, share = scale.shear(level), 2 * scale.translation(level)
    shear_x, shear_y = slant * chosen["shear_x"], slant * chosen["shear_y"]
    move_x, move_y = share * chosen["translate_x"], share * chosen["translate_y"]
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(level)
    # A shear does not move the top left corner, (-1, -1). So the slant is added as an offset.
    across = [cosine, shear_x - sine, shear_x + move_x]
    down = [shear_y + sine, cosine, shear_y + move_y]
    entries = [*across, *down, zero, zero, torch.ones_like(level)]
    return torch.stack(entries, -1).view(*level.shape, 3, 3)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """Return the map (B, 3, 3) of the operation `first` followed by `second`, both (B, 3, 3).

    The code does not use `@`: with TF32 it would shift positions by a tenth of a pixel.
    """
    return (first[..., None] * second[:, None]).sum(2)


def flips(flip: Tensor) -> Tensor:
    """Return the scale of each axis, (B, 2), x first: -1 for x if `flip`, bool (B,), mirrors the image."""
    return torch.stack([1 - 2 * flip.float(), torch.ones_like(flip, dtype=torch.float32)], 1)


def pad_windows(draws: Tensor, side: int, margin: int) -> tuple[Tensor, Tensor]:
    """Return scales and centres, each (B, 2), of side x side windows at whole pixels of a padded image.

    `draws` are random numbers from 0 to 1, (B, 2), x first.
    """
    padded = side + 2 * margin
    offset = (draws * (2 * margin + 1)).floor().clamp(max=2 * margin)
    return torch.full_like(draws, side / padded), (2 * offset + side) / padded - 1


def resized_windows(draws: Tensor, least_area: float) -> tuple[Tensor, Tensor]:
    """Return scales and centres, each (B, 2), of the windows of RandomResizedCrop in a square image.

    `draws` are random numbers from 0 to 1, (B, 2 * ATTEMPTS + 2). The area is uniform from `least_area` to 1 and the
    aspect ratio log-uniform from 3/4 to 4/3. As in torchvision, the window is the first of ten shapes that fits, or the
    whole image. Unlike torchvision, sides and offsets are not rounded to whole pixels.
    """
    sides = first_fitting(draws[:, :-2], (least_area, 1.0), (3 / 4, 4 / 3), fallback=1.0)
    return sides, (draws[:, -2:] * 2 - 1) * (1 - sides)


def first_fitting(draws: Tensor, areas: tuple[float, float], ratios: tuple[float, float], fallback: float) -> Tensor:
    """Return width and height, (B, 2), as shares of the side, of the first rectangle that fits into the unit square.

    `draws` are random numbers from 0 to 1, (B, 2 * ATTEMPTS). The area is uniform in `areas` and width / height is
    log-uniform in `ratios`. If no attempt fits, both sides are `fallback`. All attempts are computed, so that shapes
    are constant.
    """
    first, second = draws.view(-1, 2, ATTEMPTS).unbind(1)
    area = areas[0] + first * (areas[1] - areas[0])
    ratio = torch.exp(math.log(ratios[0]) + second * math.log(ratios[1] / ratios[0]))
    sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], 2)
    fits = (sides <= 1).all(2)
    first_fit = fits.int().argmax(1)[:, None, None].expand(-1, 1, 2)
    taken = sides.gather(1, first_fit)[:, 0]
    return torch.where(fits.any(1, keepdim=True), taken, torch.full_like(taken, fallback))


def sample(
    pixels: Tensor, size: int, matrix: Tensor | None, scales: Tensor, centres: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Sample each image through its map and window at size x size pixels.

    `pixels` is float (B, 3, H, W). `matrix`, (B, 3, 3), maps from the result to the frame of the window; None is the
    identity. `scales` and `centres`, both (B, 2), x first, place the window in the image. Returns the images and a bool
    mask (B, 1, size, size) of the pixels inside the window, None without a matrix. Outside, the pixels of the border
    are repeated.
    """
    steps = (torch.arange(size, device=pixels.device, dtype=pixels.dtype) * 2 + 1) / size - 1
    placed = torch.eye(3, device=pixels.device).expand(len(pixels), 3, 3) if matrix is None else matrix
    across, down, offset = placed[:, :2, :, None].unbind(2)
    columns, rows = across * steps + offset, down * steps
    inside = None
    if matrix is not None:
        distance = torch.maximum(
            _outer_sum(columns[:, 0], rows[:, 0]).abs_(), _outer_sum(columns[:, 1], rows[:, 1]).abs_()
        )
        inside = (distance < 1).unsqueeze(1)
    columns, rows = columns * scales[:, :, None] + centres[:, :, None], rows * scales[:, :, None]
    # As complex numbers x + iy, one operation gives both coordinates interleaved, as `grid_sample` needs them.
    grid = torch.view_as_real(_outer_sum(torch.complex(*columns.unbind(1)), torch.complex(*rows.unbind(1))))
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False), inside


def _outer_sum(columns: Tensor, rows: Tensor) -> Tensor:
    """The sums of all pairs: (B, rows, columns) from (B, columns) and (B, rows)."""
    return columns[:, None, :] + rows[:, :, None]
