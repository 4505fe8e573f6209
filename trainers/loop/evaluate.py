"""Accuracy and loss at one image size, summed on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.augment import prepare
from trainers.data import Images
from trainers.loop.cuda_graphs import GraphedWork, Recorder
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


class _Tally:
    """Sums over the images of an evaluation, on the device."""

    def __init__(self, classes: int, device: torch.device) -> None:
        self.by_class = torch.zeros(3, classes, dtype=torch.int64, device=device)
        """Correct images, images of the class, images that the model assigns to it."""
        self.loss = torch.zeros((), dtype=torch.float64 if device.type == "cpu" else torch.float32, device=device)

    def clear(self) -> None:
        self.by_class.zero_()
        self.loss.zero_()

    def add(self, logits: Tensor, labels: Tensor, counts: Tensor) -> None:
        """Add the images where `counts`, bool (B,), says so."""
        correct, actual, assigned = self.by_class
        guesses = logits.argmax(dim=1)
        correct.index_add_(0, labels, ((guesses == labels) & counts).long())
        actual.index_add_(0, labels, counts.long())
        assigned.index_add_(0, guesses, counts.long())
        losses = F.cross_entropy(logits.float(), labels, reduction="none")
        self.loss += (losses * counts).sum()  # torch.where with a Python number would make CUDA wait


class Evaluator:
    """Evaluates the present weights of a model at one image size. With a recorder, batches are recorded once."""

    def __init__(
        self,
        model: Model,
        classes: int,
        *,
        size: int,
        batch_size: int,
        numerics: Numerics,
        forward: Callable[[Tensor], Tensor] | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        """
        Args:
            size: side of the images, pixels.
            batch_size: most images per batch.
            forward: the compiled model, if there is one.
        """
        self.model, self.size, self.batch_size, self.numerics = model, size, batch_size, numerics
        self.forward = model.net if forward is None else forward
        self.tally = _Tally(classes, torch.device(numerics.device))
        self._graphed = GraphedWork(self._add, (self.tally.by_class, self.tally.loss), recorder) if recorder else None

    @torch.inference_mode()
    def __call__(self, images: Images) -> Score:
        """Evaluate on `images`. Waits for the device once, at the end.

        All batches have the same shape: at most `batch_size` images, spread evenly over the batches. The last batch is
        padded with images that do not count.
        """
        self.model.net.eval()
        count = len(images)
        batches = -(-count // self.batch_size)
        width = -(-count // batches)
        device = images.indices.device
        self.tally.clear()
        places = torch.arange(batches * width, device=device).view(batches, width)
        positions = images.indices[places.clamp(max=count - 1)]
        groups = images.groups(positions.flatten(), [width] * batches)
        for place, chosen, group in zip(places, positions, groups, strict=True):
            batch = group, images.labels[chosen], place < count
            if self._graphed:
                self._graphed(batch, self.size)
            else:
                self._add(*batch)
        by_class = self.tally.by_class.cpu().double()
        return Score(by_class[0].sum().item() / count, self.tally.loss.item() / count, _class_means(*by_class))

    def clear(self) -> None:
        """Free the recordings."""
        self._graphed = None

    def _add(self, images: Tensor, labels: Tensor, counts: Tensor) -> None:
        pixels = prepare(images, size=self.size, mean=self.model.mean, std=self.model.std)
        with self.numerics.autocast():
            logits = self.forward(pixels.contiguous(memory_format=self.numerics.memory_format))
        self.tally.add(logits, labels, counts)


def evaluate(model: Model, images: Images, *, size: int, batch_size: int, numerics: Numerics) -> Score:
    """Evaluate the present weights of the model on `images` at `size` px, in batches of at most `batch_size`."""
    return Evaluator(model, len(images.classes), size=size, batch_size=batch_size, numerics=numerics)(images)


def _class_means(correct: Tensor, actual: Tensor, assigned: Tensor) -> dict[str, float]:
    """Each is the mean over the classes for which it is defined."""
    recall = correct[actual > 0] / actual[actual > 0]
    seen = actual + assigned > 0
    f1 = 2 * correct[seen] / (actual + assigned)[seen]
    return {"val_balanced_accuracy": recall.mean().item(), "val_macro_f1": f1.mean().item()}
