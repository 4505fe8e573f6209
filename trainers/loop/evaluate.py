"""Accuracy and loss at one image size, summed on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.augment import prepare
from trainers.data import Images
from trainers.network.model import Model
from trainers.numerics import Numerics


@dataclass(frozen=True)
class Score:
    """The result of an evaluation."""

    accuracy: float
    """Share of correct images, 0 to 1."""
    loss: float
    """Mean cross-entropy without label smoothing, nats."""
    by_class: Mapping[str, float] | None = None
    """Means over the classes, each 0 to 1. `val_balanced_accuracy`: of the share of their images that are correct, as
    scikit-learn's `balanced_accuracy_score`; `val_macro_f1`: of F1, the harmonic mean of precision and recall, as its
    `f1_score` with `average="macro"`."""


@torch.inference_mode()
def evaluate(
    model: Model,
    images: Images,
    *,
    size: int,
    batch_size: int,
    numerics: Numerics,
    forward: Callable[[Tensor], Tensor] | None = None,
) -> Score:
    """Evaluate the present weights of the model on `images` at `size` px. Waits for the device once, at the end.

    All batches have the same shape: at most `batch_size` images, spread evenly over the batches. The last batch is
    padded with images that do not count. `forward` is the compiled model, if there is one.
    """
    model.net.eval()
    forward = model.net if forward is None else forward
    count = len(images)
    batches = -(-count // batch_size)
    width = -(-count // batches)
    device = images.indices.device
    # By class: correct images, images of the class, images that the model assigns to it.
    correct, actual, assigned = torch.zeros(3, len(images.classes), dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float64 if device.type == "cpu" else torch.float32, device=device)
    places = torch.arange(batches * width, device=device).view(batches, width)
    positions = images.indices[places.clamp(max=count - 1)]
    groups = images.groups(positions.flatten(), [width] * batches)
    for place, chosen, group in zip(places, positions, groups, strict=True):
        counts = place < count
        labels = images.labels[chosen]
        pixels = prepare(group, size=size, mean=model.mean, std=model.std)
        with numerics.autocast():
            logits = forward(pixels.contiguous(memory_format=numerics.memory_format))
        guesses = logits.argmax(dim=1)
        correct.index_add_(0, labels, ((guesses == labels) & counts).long())
        actual.index_add_(0, labels, counts.long())
        assigned.index_add_(0, guesses, counts.long())
        losses = F.cross_entropy(logits.float(), labels, reduction="none")
        loss += (losses * counts).sum()  # torch.where with a Python number would make CUDA wait
    by_class = torch.stack([correct, actual, assigned]).cpu().double()
    return Score(by_class[0].sum().item() / count, loss.item() / count, _class_means(*by_class))


def _class_means(correct: Tensor, actual: Tensor, assigned: Tensor) -> dict[str, float]:
    """Each is the mean over the classes for which it is defined."""
    recall = correct[actual > 0] / actual[actual > 0]
    seen = actual + assigned > 0
    f1 = 2 * correct[seen] / (actual + assigned)[seen]
    return {"val_balanced_accuracy": recall.mean().item(), "val_macro_f1": f1.mean().item()}
