"""Rectangles to erase, for cutout and random erasing: (left, top, right, bottom), shares of the side."""

from __future__ import annotations

import torch
from torch import Tensor

from trainers.augment.geometry import ATTEMPTS, first_fitting


def squares(centres: Tensor, half_side: Tensor | float) -> Tensor:
    """(..., 4) squares about `centres` (..., 2), reaching over the edge where they lie close to it.

    `half_side` is one share of the side for all, or (..., 1). Cutout (arXiv 1708.04552) draws the centre uniformly
    over the image, so that squares at the edge are cut off.
    """
    return torch.cat([centres - half_side, centres + half_side], -1)


def random_rectangles(draws: Tensor, probability: float) -> Tensor:
    """(B, 4) rectangles of random erasing (arXiv 1708.04896); empty but for a share `probability` of images.

    `draws` (B, 2 * ATTEMPTS + 3) from 0 to 1. Area 0.02 to 1/3 of the image, aspect ratio log-uniform from
    0.3 to 3.3, wholly inside; the ranges and the ten attempts are torchvision's and timm's.
    """
    sides = first_fitting(draws[:, : 2 * ATTEMPTS], (0.02, 1 / 3), (0.3, 3.3), fallback=0.0)
    corner = draws[:, -3:-1] * (1 - sides)
    return torch.cat([corner, corner + sides * (draws[:, -1:] < probability)], 1)


def covered(rectangles: Tensor, size: int) -> Tensor:
    """bool (B, 1, size, size): the pixels whose centre lies in one of the image's rectangles (B, R, 4)."""
    centres = (torch.arange(size, device=rectangles.device) + 0.5) / size
    left, top, right, bottom = rectangles[..., None].unbind(2)
    columns, rows = (centres >= left) & (centres < right), (centres >= top) & (centres < bottom)
    # How many rectangles: a sum of outer products is one kernel for any number of them.
    return ((rows.float().mT @ columns.float()) > 0).unsqueeze(1)
