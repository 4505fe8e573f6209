"""Mixing of images and targets: label smoothing, mixup and CutMix, with a separate share for each image.

The partner of an image is its opposite in the batch (`flip(0)`), which is random because epochs are shuffled.
google/automl does the same, also with a share for each image. timm and hankyul2 draw one share per batch and permute
the images.
"""

from __future__ import annotations

import torch
from torch import Tensor


def smooth_targets(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Return targets, float32 (B, num_classes): `smoothing` (0 to 1) is spread over all classes (arXiv 1512.00567)."""
    one_hot = (labels[:, None] == torch.arange(num_classes, device=labels.device)).float()
    return one_hot * (1 - smoothing) + smoothing / num_classes


def beta(alpha: float, batch: int, *, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw numbers from Beta(alpha, alpha), float32 (B,), with `alpha` above 0.

    A Beta number is the ratio of Gamma numbers, computed here with logarithms, because a Gamma number of a small shape
    underflows to 0. `torch.distributions` does not accept a generator.
    """
    shape = torch.full((2, batch), alpha + 1, dtype=torch.float64, device=device)
    uniform = torch.rand(2, batch, generator=generator, dtype=torch.float64, device=device)
    # Gamma(a) = Gamma(a + 1) * U ** (1 / a); 1 - U is never 0.
    log_gamma = torch._standard_gamma(shape, generator=generator).log() + (1 - uniform).log() / alpha
    return torch.sigmoid(log_gamma[0] - log_gamma[1]).float()


def mixup_shares(alpha: float, batch: int, *, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw the share of the partner, (B,), at most 1/2: as in google/automl, the image itself has the larger share."""
    share = beta(alpha, batch, generator=generator, device=device)
    return torch.minimum(share, 1 - share)


def cutmix_boxes(alpha: float, batch: int, *, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw the boxes that show the partner: (B, 4), left, top, right, bottom, as shares of the side (arXiv 1905.04899).

    The sides are sqrt(1 - lambda) and the centre is uniform. The part of a box beyond the edge does not count.
    """
    half = (1 - beta(alpha, batch, generator=generator, device=device)).sqrt()[:, None] / 2
    centre = torch.rand(batch, 2, generator=generator, device=device)
    return torch.cat([centre - half, centre + half], 1)


def blend(images: Tensor, targets: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mix each image with its partner, in place, and the targets likewise; return both.

    `weight`, (B, 1, H, W) or (B, 1, 1, 1), is the partner's share of every pixel. The targets, (B, classes), get the
    mean share, so a box counts as much as the pixels that it covers.
    """
    share = weight.mean((2, 3))
    return images.lerp_(images.flip(0), weight), torch.lerp(targets, targets.flip(0), share)
