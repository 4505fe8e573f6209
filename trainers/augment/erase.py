"""Rectangles for cutout and random erasing: (left, top, right, bottom) as shares of the side."""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.augment.geometry import ATTEMPTS, first_fitting


def squares(centres: Tensor, half_side: Tensor | float) -> Tensor:
    """Return squares (..., 4) around `centres` (..., 2); a square near the edge extends beyond it.

    `half_side` is a share of the side: one number for all squares, or (..., 1). Cutout (arXiv 1708.04552) draws the
    centre uniformly over the image, so squares at the edge are cut off.
    """
    return torch.cat([centres - half_side, centres + half_side], -1)


def random_rectangles(draws: Tensor, probability: float) -> Tensor:
    """Return the rectangles (B, 4) of random erasing (arXiv 1708.04896), empty for a share 1 - `probability` of images.

    `draws` are random numbers from 0 to 1, (B, 2 * ATTEMPTS + 3). A rectangle covers 0.02 to 1/3 of the image, has a
    log-uniform aspect ratio from 0.3 to 3.3 and lies inside the image. torchvision and timm have the same ranges and
    the same ten attempts.
    """
    sides = first_fitting(draws[:, : 2 * ATTEMPTS], (0.02, 1 / 3), (0.3, 3.3), fallback=0.0)
    corner = draws[:, -3:-1] * (1 - sides)
    return torch.cat([corner, corner + sides * (draws[:, -1:] < probability)], 1)


def covered(rectangles: Tensor, size: int) -> Tensor:
    """Return a bool mask (B, 1, size, size) of the pixels whose centre is in one of the rectangles (B, R, 4)."""
    centres = (torch.arange(size, device=rectangles.device) + 0.5) / size
    left, top, right, bottom = rectangles[..., None].unbind(2)
    columns, rows = (centres >= left) & (centres < right), (centres >= top) & (centres < bottom)
    # The number of rectangles over each pixel: a sum of outer products is one kernel for any number of them.
    return ((rows.float().mT @ columns.float()) > 0).unsqueeze(1)
