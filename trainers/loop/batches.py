"""The batches of a training: drawn in random order, augmented on the device, cut into micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from trainers.api import Context, TrainConfig
from trainers.augment import Augmenter
from trainers.data import Images
from trainers.network import batchnorm
from trainers.network.model import Model
from trainers.rng import derive, generator
from trainers.schedule import Stage

AUGMENTED_AT_ONCE = 1 / 256
"""Share of a GPU's memory that the images of one augmentation may fill (float32). Augmenting several micro-batches at
once pays off for small images, whose kernels take longer to start than to run. The peak is a few times this share. A
GPU of another memory size forms other groups, and so draws other random numbers."""
BYTES_PER_PIXEL = 3 * 4


def pixels_at_once(device: str, share: float) -> int:
    """Pixels (images x side^2) to augment at once if a training has `share` (0 to 1) of the device; 0 on the CPU."""
    if not device.startswith("cuda"):
        return 0
    memory = torch.cuda.get_device_properties(device).total_memory
    return int(AUGMENTED_AT_ONCE * share * memory / BYTES_PER_PIXEL)


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
        """Yield the micro-batches of the images at `positions`, which fill whole batches; augment several at once."""
        sizes = micro_batches(batch, self.accumulate)
        together = max(1, self.pixels_at_once // (sizes[0] * stage.size**2))
        sizes *= len(positions) // batch
        groups = [sizes[start : start + together] for start in range(0, len(sizes), together)]
        totals = [sum(group) for group in groups]
        for group, (now, images) in zip(groups, self._groups(positions, totals), strict=True):
            pixels, targets = self.augmented(now, images, stage, chance)
            yield from zip(torch.split(pixels, group), torch.split(targets, group), strict=True)

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
        accumulate=train.accumulate,
        pixels_at_once=pixels_at_once(context.device, context.device_share),
    )
