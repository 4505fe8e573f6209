"""The batches of a training: drawn in random order, augmented on the device, cut into micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from trainers.api import Context, TrainConfig
from trainers.augment import Augmenter
from trainers.data import Images
from trainers.loop.ahead import ahead, recut
from trainers.network import batchnorm
from trainers.network.model import Model
from trainers.rng import derive, generator
from trainers.schedule import Stage

PIXELS_AT_ONCE = 8_000_000
"""Pixels (images x side^2) to augment at once on a GPU: about 100 MB in float32, and a few times that at the peak. The
side is that before or after the augmentation, whichever is larger. For small images, several batches at once pay off,
because their kernels take longer to start than to run. The number is the same for every GPU, because other groups draw
other random numbers."""
BYTES_PER_PIXEL = 3 * 4
"""Of an augmented image, which is float32."""


def pixels_at_once(device: str) -> int:
    """Pixels (images x side^2) to augment at once; 0 on the CPU, which augments one micro-batch at a time."""
    return PIXELS_AT_ONCE if device.startswith("cuda") else 0


def micro_batches(batch: int, accumulate: int) -> list[int]:
    """Sizes of the `accumulate` parts of a batch, as equal as possible; fewer parts if they would have one image.

    Batch normalisation cannot normalise one image whose feature map has shrunk to one pixel.
    """
    parts = max(min(accumulate, batch // 2), 1)
    return [batch // parts + (index < batch % parts) for index in range(parts)]


class Batches:
    """Draws, augments and cuts the images of one training.

    All methods return pixels as float32 (B, 3, size, size), normalised, and targets as float32 (B, classes). The random
    numbers of an epoch follow from the seed and the epoch alone.
    """

    def __init__(
        self, images: Images, augmenter: Augmenter, *, seed: int, device: str, accumulate: int, pixels_at_once: int
    ) -> None:
        self.images, self.augmenter = images, augmenter
        self.seed, self.device = seed, device
        self.accumulate, self.pixels_at_once = accumulate, pixels_at_once

    def __len__(self) -> int:
        """The number of images."""
        return len(self.images)

    def epoch(self, epoch: int, stage: Stage, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all micro-batches of an epoch (from 1), without those of an incomplete last batch."""
        order = self._order("order", epoch)
        positions = self.images.indices[order[: len(order) // batch * batch].to(self.device)]
        return self.parts(positions, batch, stage, generator(derive(self.seed, "augment", epoch), self.device))

    def parts(
        self, positions: Tensor, batch: int, stage: Stage, chance: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the micro-batches of the images at `positions`, which fill whole batches."""
        steps = len(positions) // batch
        groups = self._augmented_groups(positions, self._together(batch, steps, stage.size), stage, chance)
        if self.device.startswith("cuda") and self.images.place == "device":  # others are sent ahead already
            groups = ahead(groups, self.device)
        return recut(groups, micro_batches(batch, self.accumulate) * steps)

    def _together(self, batch: int, steps: int, size: int) -> list[int]:
        """How many images are augmented together. On a GPU that does not depend on the micro-batches, which depend on
        its memory with `accumulate: auto`."""
        if not self.pixels_at_once:
            return micro_batches(batch, self.accumulate) * steps
        side = max(size, self.images.images.shape[-1])
        images = max(self.pixels_at_once // side**2, 2)
        if images < batch:
            return micro_batches(batch, -(-batch // images)) * steps
        together = min(images // batch, steps)
        whole, rest = divmod(steps, together)
        return [together * batch] * whole + ([rest * batch] if rest else [])

    def _augmented_groups(
        self, positions: Tensor, counts: list[int], stage: Stage, chance: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for now, images in self._groups(positions, counts):
            yield self.augmented(now, images, stage, chance)

    def for_statistics(self, epoch: int, stage: Stage, batch: int) -> Iterator[Tensor]:
        """Yield the pixels of a few micro-batches, to re-estimate batch-norm statistics at the start of `epoch`.

        All have the same number of images, because each counts the same in the statistics.
        """
        chance = generator(derive(self.seed, "batchnorm", epoch), self.device)
        part = micro_batches(batch, self.accumulate)[0]
        whole = min(batchnorm.BATCHES, len(self) // part)
        order = self._order("statistics", epoch)[: whole * part].to(self.device)
        for now, images in self._groups(self.images.indices[order], [part] * whole):
            yield self.augmented(now, images, stage, chance)[0]

    def sample(self, count: int, stage: Stage) -> tuple[Tensor, Tensor]:
        """Return `count` augmented images and their targets, always the same; images repeat if there are fewer."""
        positions = self.images.indices[torch.arange(count, device=self.device) % len(self.images)]
        ((now, images),) = self._groups(positions, [count])
        return self.augmented(now, images, stage, generator(0, self.device))

    def augmented(
        self, positions: Tensor, images: Tensor, stage: Stage, chance: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Augment `images`, uint8 (B, 3, H, H), which are those at `positions`, int64 (B,), as `stage` says."""
        return self.augmenter(
            images,
            self.images.labels[positions],
            size=stage.size,
            magnitude=stage.randaugment,
            mixup=stage.mixup,
            generator=chance,
        )

    def _groups(self, positions: Tensor, sizes: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Positions and images of groups of these sizes. A group is used up before the next one is asked for."""
        return zip(torch.split(positions, list(sizes)), self.images.groups(positions, sizes), strict=True)

    def _order(self, purpose: str, epoch: int) -> Tensor:
        """A random order of all images: int64 (N,) on the CPU."""
        return torch.randperm(len(self.images), generator=generator(derive(self.seed, purpose, epoch)))


def batches_of(images: Images, model: Model, train: TrainConfig, context: Context) -> Batches:
    """Return the batches of a training of `model` on `images`."""
    augmenter = Augmenter(
        train.augment,
        mean=model.mean,
        std=model.std,
        num_classes=len(images.classes),
        label_smoothing=train.label_smoothing,
    )
    return Batches(
        images,
        augmenter,
        seed=context.seed,
        device=context.device,
        accumulate=1 if train.accumulate == "auto" else train.accumulate,
        pixels_at_once=pixels_at_once(context.device),
    )
