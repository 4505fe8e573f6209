"""Accuracy and loss at one image size, summed on the device."""

from __future__ import annotations

from collections.abc import Callable
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
    correct = torch.zeros((), dtype=torch.int64, device=device)
    loss = torch.zeros((), dtype=torch.float64 if device.type == "cpu" else torch.float32, device=device)
    places = torch.arange(batches * width, device=device).view(batches, width)
    for place in places:
        counts = place < count
        chosen = images.indices[place.clamp(max=count - 1)]
        labels = images.labels[chosen]
        pixels = prepare(images.images[chosen], size=size, mean=model.mean, std=model.std)
        with numerics.autocast():
            logits = forward(pixels.contiguous(memory_format=numerics.memory_format))
        correct += ((logits.argmax(dim=1) == labels) & counts).sum()
        losses = F.cross_entropy(logits.float(), labels, reduction="none")
        loss += (losses * counts).sum()  # torch.where with a Python number would make CUDA wait
    return Score(accuracy=correct.item() / count, loss=loss.item() / count)
