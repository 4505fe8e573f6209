"""The stratified split of the training images into training and validation, and its identity."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Positions in the training set, in ascending order. The two parts never overlap."""

    train: Indices
    validation: Indices

    @property
    def hash(self) -> str:
        """The SHA-256 of both lists (little-endian int64), hexadecimal."""
        digest = hashlib.sha256()
        for name, indices in ((b"train", self.train), (b"validation", self.validation)):
            digest.update(name + len(indices).to_bytes(8, "little") + indices.astype("<i8").tobytes())
        return digest.hexdigest()


def stratified(
    labels: NDArray[np.int64],
    fraction: float,
    seed: int,
    *,
    train_limit: int | None = None,
    validation_limit: int | None = None,
) -> Split:
    """Hold out `fraction` (0 to 1) of every class, at least one image of each; then apply the limits to both parts.

    `labels` is int64 (N,). The validation part depends on `fraction` and `seed`, but not on `train_limit`; likewise the
    training part does not depend on `validation_limit`.

    Raises:
        ValueError: a class has fewer than two images and cannot be in both parts.
    """
    # RandomState is the generator whose stream NumPy promises never to change (NEP 19).
    random = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
    train: list[Indices] = []
    validation: list[Indices] = []
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label).astype(np.int64))
        if len(members) < 2:
            raise ValueError(f"class {label} has {len(members)} image, but training and validation need one each")
        held_out = min(max(1, round(len(members) * fraction)), len(members) - 1)
        validation.append(members[:held_out])
        train.append(members[held_out:])
    return Split(_limited(train, train_limit), _limited(validation, validation_limit))


def limited(
    labels: NDArray[np.int64],
    held_out: Indices,
    *,
    train_limit: int | None = None,
    validation_limit: int | None = None,
) -> Split:
    """Take the images at `held_out` for validation and all others for training; then apply the limits to both parts.

    With a limit, the first images of every class are taken.
    """
    apart = np.zeros(len(labels), dtype=bool)
    apart[held_out] = True

    def classes(chosen: NDArray[np.bool_]) -> list[Indices]:
        return [np.flatnonzero(chosen & (labels == label)).astype(np.int64) for label in np.unique(labels)]

    return Split(_limited(classes(~apart), train_limit), _limited(classes(apart), validation_limit))


def _limited(classes: list[Indices], limit: int | None) -> Indices:
    """At most `limit` images, divided among the classes in proportion to their sizes (largest remainder)."""
    sizes = np.array([len(members) for members in classes])
    if limit is not None and limit < sizes.sum():
        shares = sizes * limit / sizes.sum()
        counts = np.floor(shares).astype(np.int64)
        neediest = np.argsort(counts - shares, kind="stable")[: limit - counts.sum()]
        counts[neediest] += 1
        classes = [members[:count] for members, count in zip(classes, counts, strict=True)]
    return np.sort(np.concatenate(classes))
