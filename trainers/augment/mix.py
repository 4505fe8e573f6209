"""Mixing of images and targets: label smoothing, mixup and CutMix. Each image draws its own share.

Every image's partner is its opposite among those augmented together (`flip(0)`), which is random because epochs
are shuffled; google/automl does the same within a batch, per image as here. timm and hankyul2 draw one share per
batch and permute.
"""

from __future__ import annotations

import torch
from torch import Tensor


def smooth_targets(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """float32 (B, num_classes): `smoothing` spread over all classes (arXiv 1512.00567)."""
    one_hot = (labels[:, None] == torch.arange(num_classes, device=labels.device)).float()
    return one_hot * (1 - smoothing) + smoothing / num_classes


def beta(alpha: float, batch: int, *, generator: torch.Generator, device: torch.device) -> Tensor:
    """(B,) draws of Beta(alpha, alpha), `alpha` above 0.

    The ratio of two Gammas, taken in logarithms: a Gamma of a small shape underflows to 0, and 0/0 is no
    draw. `torch.distributions` takes no generator.
    """
    shape = torch.full((2, batch), alpha + 1, dtype=torch.float64, device=device)
    uniform = torch.rand(2, batch, generator=generator, dtype=torch.float64, device=device)
    # Gamma(a) = Gamma(a + 1) * U ** (1 / a); 1 - U is never 0.
    log_gamma = torch._standard_gamma(shape, generator=generator).log() + (1 - uniform).log() / alpha
    return torch.sigmoid(log_gamma[0] - log_gamma[1]).float()


def mixup_shares(alpha: float, batch: int, *, generator: torch.Generator, device: torch.device) -> Tensor:
    """(B,) share of the partner, at most 1/2: google/automl keeps the greater share for the image itself."""
    share = beta(alpha, batch, generator=generator, device=device)
    return torch.minimum(share, 1 - share)


def cutmix_boxes(alpha: float, batch: int, *, generator: torch.Generator, device: torch.device) -> Tensor:
    """(B, 4) boxes (left, top, right, bottom), shares of the side, that show the partner (arXiv 1905.04899).

    Sides sqrt(1 - lambda), centre uniform; what reaches over the edge is cut off and counts for nothing.
    """
    half = (1 - beta(alpha, batch, generator=generator, device=device)).sqrt()[:, None] / 2
    centre = torch.rand(batch, 2, generator=generator, device=device)
    return torch.cat([centre - half, centre + half], 1)


def blend(images: Tensor, targets: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Give each image's partner its share of every pixel, in place: `weight`, (B, 1, H, W) or (B, 1, 1, 1).

    The targets (B, classes) get the mean share, so a box counts by the pixels it really covers.
    """
    share = weight.mean((2, 3))
    return images.lerp_(images.flip(0), weight), torch.lerp(targets, targets.flip(0), share)
