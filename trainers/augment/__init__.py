"""Augmentation of whole batches on the device: from uint8 images to normalised images and soft targets.

Published code crops, resizes and flips, and then applies RandAugment to the result. Here the order is different:

1. Colour operations of RandAugment, in the order drawn, at the original resolution. Histograms and means refer to the
   whole image, not to the crop, and do not include the gray of an earlier shift. Sharpness works on source pixels, so a
   small image is sharpened more coarsely than after enlarging it.
2. Crop, flip, geometric operations of RandAugment in the order drawn, and resize, in one bilinear sampling. Published
   code samples again, and loses sharpness, in each operation. Here two opposite shifts restore the image completely.
3. Everything outside the crop, cutouts and erased rectangles become the mean of the data (0 after normalisation).
   Google fills with 128, which is 0.004 after its normalisation, and fills cutouts with noise when it fine-tunes.
4. Mixup or CutMix, and label smoothing.

Never: reads an image from the disk, or waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.api import Augment
from trainers.augment import erase, geometry, mix, randaugment

__all__ = ["Augmenter", "prepare"]


def prepare(images: Tensor, *, size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Resize and normalise images for evaluation.

    `images` is uint8 (B, 3, H, W); the result is float32 (B, 3, size, size), channels last. The resize is bilinear and
    antialiased when it shrinks, like Pillow's. `mean` and `std` refer to pixel values from 0 to 1.
    """
    with torch.autocast(images.device.type, enabled=False), torch.no_grad():
        pixels = _normalise(images.float(), mean, std).contiguous(memory_format=torch.channels_last)
        return pixels if _is_square(pixels, size) else _resize(pixels, size)


class Augmenter:
    """Augments one batch per call. It has settings but no state: all random numbers come from the generator.

    Nothing waits for the device, and shapes depend on the arguments only. So `torch.where` never gets a Python number
    here: on CUDA it would copy the number to the device and wait.
    """

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
        """Augment `images`, uint8 (B, 3, H, H), with `labels`, int64 (B,).

        `size` is in pixels. `magnitude` is canonical; 0 switches RandAugment off. `mixup` is the alpha; 0 switches
        mixup off. `generator` must be on the device of the images. Returns normalised float32 images (B, 3, size,
        size), channels last, and soft targets, float32 (B, num_classes).
        """
        with torch.autocast(images.device.type, enabled=False), torch.no_grad():
            pixels = self._distort(images, size, magnitude, generator)
            targets = mix.smooth_targets(labels, self.num_classes, self.label_smoothing)
            weight = self._partner_weight(pixels, mixup, generator)
            if weight is not None:
                pixels, targets = mix.blend(pixels, targets, weight)
            return pixels.contiguous(memory_format=torch.channels_last), targets

    def _distort(self, images: Tensor, size: int, magnitude: float, generator: torch.Generator) -> Tensor:
        settings, batch = self.augment, len(images)
        pixels = images.float()
        matrix: Tensor | None = None
        holes: list[Tensor] = []
        if settings.randaugment_layers and magnitude > 0:
            layers, form = settings.randaugment_layers, settings.randaugment_form
            plan = randaugment.draw(batch, layers, magnitude, form, generator=generator, device=images.device)
            pixels, matrix, cutouts = randaugment.apply(pixels, plan, form)
            holes.append(cutouts)
        pixels = _normalise(pixels, self.mean, self.std)
        if size < pixels.shape[-1]:
            pixels = _resize(pixels, size)  # bilinear sampling alone would cause aliasing
        pixels, inside = self._sample(pixels, size, matrix, generator)
        holes += self._holes(batch, generator, images.device)
        if holes:
            spared = ~erase.covered(torch.cat(holes, 1), size)
            inside = spared if inside is None else inside & spared
        return pixels if inside is None else pixels.mul_(inside.float())

    def _sample(
        self, pixels: Tensor, size: int, matrix: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        settings, batch, side = self.augment, len(pixels), pixels.shape[-1]
        draws = torch.rand(batch, 2 * geometry.ATTEMPTS + 3, generator=generator, device=pixels.device)
        scales, centres = torch.ones_like(draws[:, :2]), torch.zeros_like(draws[:, :2])
        if settings.crop == "pad":
            margin = side // 8
            pixels = F.pad(pixels, [margin] * 4, mode="reflect")
            scales, centres = geometry.pad_windows(draws[:, 1:3], side, margin)
        elif settings.crop == "resized":
            scales, centres = geometry.resized_windows(draws[:, 1:], settings.crop_scale)
        if settings.flip:
            scales = scales * geometry.flips(draws[:, 0] < 0.5)
        return geometry.sample(pixels, size, matrix, scales, centres)

    def _holes(self, batch: int, generator: torch.Generator, device: torch.device) -> list[Tensor]:
        """The rectangles that the settings erase, each (B, 1, 4)."""
        holes = []
        if self.augment.cutout > 0:
            centres = torch.rand(batch, 2, generator=generator, device=device)
            holes.append(erase.squares(centres, self.augment.cutout / 2)[:, None])
        if self.augment.erase > 0:
            draws = torch.rand(batch, 2 * geometry.ATTEMPTS + 3, generator=generator, device=device)
            holes.append(erase.random_rectangles(draws, self.augment.erase)[:, None])
        return holes

    def _partner_weight(self, pixels: Tensor, mixup: float, generator: torch.Generator) -> Tensor | None:
        """The share of the partner image in every pixel, (B, 1, size, size) or (B, 1, 1, 1); None without mixing."""
        batch, size, device = len(pixels), pixels.shape[-1], pixels.device
        blended = boxed = None
        if mixup > 0:
            blended = mix.mixup_shares(mixup, batch, generator=generator, device=device)[:, None, None, None]
        if self.augment.cutmix > 0:
            boxes = mix.cutmix_boxes(self.augment.cutmix, batch, generator=generator, device=device)
            boxed = erase.covered(boxes[:, None], size).float()
        if blended is None or boxed is None:
            return boxed if blended is None else blended
        heads = torch.rand(batch, 1, 1, 1, generator=generator, device=device) < 0.5
        return torch.where(heads, blended, boxed)


def _is_square(pixels: Tensor, size: int) -> bool:
    return pixels.shape[-2:] == (size, size)


def _resize(pixels: Tensor, size: int) -> Tensor:
    return F.interpolate(pixels, (size, size), mode="bilinear", antialias=pixels.shape[-1] > size)


def _normalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    shift, scale = _statistics(tuple(mean), tuple(std), pixels.device)
    return (pixels - shift) / scale


@lru_cache(maxsize=32)
def _statistics(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Both as (3, 1, 1), in pixel values. Cached, because copying numbers to a GPU waits for it."""
    with torch.inference_mode(False):
        shift, scale = (torch.tensor(numbers, device=device).view(3, 1, 1) * 255 for numbers in (mean, std))
        return shift, scale
