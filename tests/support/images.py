"""Images for tests: CIFAR-10's test images if HPO_TEST_CIFAR names their folder, otherwise generated shapes."""

from __future__ import annotations

import os
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image


@lru_cache
def real_images(count: int) -> torch.Tensor:
    """Return uint8 (count + 3, 3, 32, 32): `count` real images, then a black, a two-tone and a nearly flat image."""
    flat = np.full((3, 3, 32, 32), 0, np.uint8)
    flat[1, :, :, 16:] = 200
    flat[2] = 100 + (np.arange(32) // 16).astype(np.uint8)
    return torch.from_numpy(np.concatenate([_source()[:count], flat]))


def _source() -> NDArray[np.uint8]:
    folder = os.environ.get("HPO_TEST_CIFAR")
    if folder:
        from torchvision.datasets import CIFAR10

        return np.asarray(CIFAR10(folder, train=False).data.transpose(0, 3, 1, 2))
    from trainers.data import shapes

    return shapes.draw("test")[0]


def to_pillow(image: torch.Tensor) -> Image.Image:
    """Convert uint8 (3, H, W) to a Pillow image."""
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def from_pillow(image: Image.Image) -> torch.Tensor:
    """Convert a Pillow image to float32 (3, H, W), 0 to 255."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
