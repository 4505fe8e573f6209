"""RandAugment (arXiv 1909.13719), as in google/automl: the choice of operations for each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from trainers.augment import color, geometry
from trainers.augment import magnitude as scale
from trainers.augment.erase import squares

Form: TypeAlias = Literal["published", "increasing"]
"""How the effect of an operation depends on the magnitude: see `trainers.augment.magnitude`."""

OPERATIONS = (*color.OPERATIONS, *geometry.GEOMETRIC_OPERATIONS, "cutout")
"""The sixteen operations, drawn with equal probability and with replacement."""

WITHOUT_ARGUMENT = ("autocontrast", "equalize", "invert")

MAGNITUDE_STD = 0.5
"""Standard deviation of an operation's magnitude: timm's `mstd0.5`, as in the commands of its documentation. In
google/automl it is 0: all operations have the magnitude of the stage."""


@dataclass(frozen=True)
class Plan:
    """The random choices for a batch of B images and N layers."""

    operation: Tensor
    """int64 (B, N), an index into `OPERATIONS`."""
    level: Tensor
    """float32 (B, N), canonical magnitude, never negative."""
    sign: Tensor
    """float32 (B, N), -1 or 1: the direction of a geometric operation."""
    centre: Tensor
    """float32 (B, N, 2), 0 to 1, x first: the centre of a cutout."""

    def chosen(self) -> dict[str, Tensor]:
        """Return, for each operation, the bool mask (B, N) of the places where it was drawn."""
        index = torch.arange(len(OPERATIONS), device=self.operation.device)[:, None, None]
        return dict(zip(OPERATIONS, (self.operation == index).unbind(), strict=True))


def draw(
    batch: int,
    layers: int,
    magnitude: float,
    form: Form = "published",
    *,
    generator: torch.Generator,
    device: torch.device,
) -> Plan:
    """Draw the operations, magnitudes, signs and cutout centres of all images.

    In the increasing form the standard deviation of the magnitudes is at most the magnitude itself.
    """
    std = min(MAGNITUDE_STD, magnitude) if form == "increasing" else MAGNITUDE_STD
    uniform = torch.rand(batch, layers, 4, generator=generator, device=device)
    noise = torch.randn(batch, layers, generator=generator, device=device)
    return Plan(
        operation=(uniform[..., 0] * len(OPERATIONS)).long().clamp_(max=len(OPERATIONS) - 1),
        level=(noise * std + magnitude).clamp_(min=0),
        sign=1 - 2 * (uniform[..., 1] < 0.5).float(),
        centre=uniform[..., 2:],
    )


def apply(pixels: Tensor, plan: Plan, form: Form = "published") -> tuple[Tensor, Tensor, Tensor]:
    """Apply the colour operations; return the geometric operations and cutouts for the sampling of the images.

    `pixels` is float32 (B, 3, H, W) with whole numbers from 0 to 255. Returns the changed pixels, the map (B, 3, 3) of
    all geometric operations of each image, and the cutout rectangles (B, N, 4), empty rectangles included.
    `form` says how the effect of the colour operations depends on the magnitude: see `trainers.augment.magnitude`.
    """
    chosen = plan.chosen()
    arguments = scale.FORMS[form](plan.level, plan.sign)
    for name in WITHOUT_ARGUMENT:  # a cutout's centre is of no use to them, so it decides whether they are applied
        chosen[name] = chosen[name] & (plan.centre[..., 0] < arguments.chance)
    settings = color.settings(plan.level, chosen, arguments)
    maps = geometry.maps(plan.level * plan.sign, chosen)
    matrix = maps[:, 0]
    for layer in range(plan.level.shape[1]):
        pixels = color.distort(pixels, settings.layer(layer))
        if layer:
            matrix = geometry.compose(matrix, maps[:, layer])
    half = scale.cutout_half_side(plan.level) * chosen["cutout"]
    return pixels, matrix, squares(plan.centre, half[..., None])
