"""Augmentation of whole batches on the device: uint8 images in, normalised images and soft targets out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.api import Augment

__all__ = ["Augmenter", "prepare"]


def prepare(images: Tensor, *, size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Resize and normalise for evaluation.

    `images` uint8 (B, 3, H, W); returns float32 (B, 3, size, size), channels last. Bilinear, antialiased
    when it shrinks, as PIL's; `mean` and `std` refer to pixel values from 0 to 1.
    """
    with torch.autocast(images.device.type, enabled=False):
        pixels = images.to(torch.float32, memory_format=torch.channels_last)
        if images.shape[-1] != size or images.shape[-2] != size:
            pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
        return _normalise(pixels, mean, std).contiguous(memory_format=torch.channels_last)


class Augmenter:
    """Augments one batch per call. Holds no state but its settings: all chance is in the generator."""

    def __init__(
        self,
        augment: Augment,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        num_classes: int,
        label_smoothing: float,
    ) -> None:
        self.augment = augment
        self.mean, self.std = tuple(mean), tuple(std)
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing

    def __call__(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        size: int,
        magnitude: float,
        mixup: float,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Augment `images` uint8 (B, 3, H, W) with `labels` int64 (B,).

        Returns normalised float32 (B, 3, size, size) and soft targets float32 (B, num_classes).
        """
        batch, _, height, width = images.shape
        device = images.device
        draws = torch.rand(batch, 3, generator=generator, device=device)
        if self.augment.crop == "pad":
            margin = height // 8
            padded = F.pad(images.float(), (margin, margin, margin, margin), mode="reflect")
            shift = (draws[:, :2] * (2 * margin + 1)).long()
            rows = shift[:, 0, None] + torch.arange(height, device=device)
            columns = shift[:, 1, None] + torch.arange(width, device=device)
            index = torch.arange(batch, device=device)[:, None, None]
            images = padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]].permute(
                0, 3, 1, 2
            )
        pixels = images.float()
        if self.augment.flip:
            pixels = torch.where((draws[:, 2] < 0.5)[:, None, None, None], pixels.flip(-1), pixels)
        one_hot = (labels[:, None] == torch.arange(self.num_classes, device=device)).float()
        targets = one_hot * (1 - self.label_smoothing) + self.label_smoothing / self.num_classes
        return prepare(pixels, size=size, mean=self.mean, std=self.std), targets


def _normalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    shift = torch.tensor(mean, device=pixels.device).view(3, 1, 1) * 255
    scale = torch.tensor(std, device=pixels.device).view(3, 1, 1) * 255
    return (pixels - shift) / scale
