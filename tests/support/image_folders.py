"""Folders of images for tests, made from generated shapes or from any images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def noise(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    """An RGB image that no other seed gives."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def write_classes(root: Path, counts: dict[str, int], end: str = ".png") -> Path:
    """Write `counts[name]` images of each class `name` into `root`; return `root`."""
    for number, (name, count) in enumerate(counts.items()):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            noise(1000 * number + index).save(folder / f"{index:04d}{end}")
    return root


def write_images(
    root: Path, images: NDArray[np.uint8], labels: NDArray[np.int64], classes: tuple[str, ...], end: str = ".png"
) -> Path:
    """Write images, uint8 (N, 3, H, W), as `root/CLASS/NUMBER.png`; return `root`."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{number:05d}{end}")
    return root
