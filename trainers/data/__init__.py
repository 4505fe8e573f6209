"""The data sets: verified, decoded once per machine into memory-mapped arrays, and kept on the device.

All trials of a machine map the same files, so the operating system keeps one copy in memory for all of them. On CUDA,
each process keeps one uint8 tensor per data set on the device.

Never: gives the test split to a search. Only `trainers.retrain` may open it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trainers.api import DataConfig
from trainers.data import cifar, shapes
from trainers.data.split import Split, stratified
from trainers.files import sync

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class DataInfo:
    """The facts about a study's data that the driver records."""

    num_classes: int
    classes: tuple[str, ...]
    """Names of the classes, in the order of the labels."""
    train_count: int
    """Number of training images."""
    validation_count: int
    """Number of validation images."""
    split_hash: str
    """SHA-256 of the training and validation indices."""


@dataclass(frozen=True)
class Images:
    """A part of a data set on the device. A batch is `images[indices[...]]`; nothing else is copied."""

    images: torch.Tensor
    """uint8 (M, 3, 32, 32): the whole official split."""
    labels: torch.Tensor
    """int64 (M,)."""
    indices: torch.Tensor
    """int64 (N,) on the same device: the positions of this part."""
    classes: tuple[str, ...]
    """Names of the classes."""

    def __len__(self) -> int:
        return len(self.indices)


def prepare(config: DataConfig, cache_dir: str) -> DataInfo:
    """Verify the source files, after a download if `config.download` is set; fill the cache and compute the split.

    The driver calls this once before any trial, so that a study never starts with bad data.

    Raises:
        DataError: a file is missing, truncated or not the published one. The text names the path and the remedy.
    """
    if config.name != "shapes":
        cifar.verify(config)
    classes, labels = _arrays(config, cache_dir, train=True)[1:]
    split = _split(config, labels)
    return DataInfo(len(classes), classes, len(split.train), len(split.validation), split.hash)


def train_and_validation(config: DataConfig, cache_dir: str, device: str) -> tuple[Images, Images]:
    """Return the training and the validation images of a trial.

    Raises:
        DataError: the cache is empty on this machine, and a source file is missing or damaged.
    """
    images, classes, labels = _on_device(config, cache_dir, device, train=True)
    split = _split(config, labels.cpu().numpy())
    train, validation = (Images(images, labels, _to(part, device), classes) for part in (split.train, split.validation))
    return train, validation


def all_training_images(config: DataConfig, cache_dir: str, device: str) -> Images:
    """Return training and validation images together, as a final training uses them. The limits apply."""
    train, validation = train_and_validation(config, cache_dir, device)
    import torch

    # Sorted, so that the order of an epoch does not depend on the split.
    both = torch.cat([train.indices, validation.indices]).sort().values
    return dataclasses.replace(train, indices=both)


def open_test_split(config: DataConfig, cache_dir: str, device: str) -> Images:
    """Return the official test split. Nothing else opens it, and only `trainers.retrain` may call this."""
    images, classes, labels = _on_device(config, cache_dir, device, train=False)
    return Images(images, labels, _to(np.arange(len(labels)), device), classes)


def _split(config: DataConfig, labels: NDArray[np.int64]) -> Split:
    return stratified(
        labels,
        config.validation_fraction,
        config.split_seed,
        train_limit=config.train_limit,
        validation_limit=config.validation_limit,
    )


def _to(array: NDArray[np.int64], device: str) -> torch.Tensor:
    import torch

    return torch.from_numpy(array).to(device)


def _on_device(
    config: DataConfig, cache_dir: str, device: str, *, train: bool
) -> tuple[torch.Tensor, tuple[str, ...], torch.Tensor]:
    folder = _folder(config, cache_dir, train=train)
    return _tensors(str(folder), device)


@lru_cache(maxsize=4)
def _tensors(folder: str, device: str) -> tuple[torch.Tensor, tuple[str, ...], torch.Tensor]:
    """Images, class names and labels, once per process and device. On the CPU the images stay a mapped file."""
    import torch

    images, classes, labels = _read(Path(folder))
    return torch.from_numpy(images).to(device), classes, torch.from_numpy(labels).to(device)


def _arrays(
    config: DataConfig, cache_dir: str, *, train: bool
) -> tuple[NDArray[np.uint8], tuple[str, ...], NDArray[np.int64]]:
    return _read(_folder(config, cache_dir, train=train))


def _read(folder: Path) -> tuple[NDArray[np.uint8], tuple[str, ...], NDArray[np.int64]]:
    # Mode "c" is a private mapping: torch needs a writable array, but a write never reaches the file.
    images = np.load(folder / "images.npy", mmap_mode="c", allow_pickle=False)
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    classes = tuple(json.loads((folder / "classes.json").read_text(encoding="utf-8")))
    return images, classes, labels


def _folder(config: DataConfig, cache_dir: str, *, train: bool) -> Path:
    """The folder of the decoded arrays, filled if it does not exist. Its name contains the hash of the source."""
    split = "train" if train else "test"
    if config.name == "shapes":
        content = hashlib.sha256(f"{shapes.VERSION} {shapes.COUNTS}".encode()).hexdigest()
    else:
        content = cifar.content_hash(config.name)
    folder = Path(cache_dir) / "data" / f"{config.name}-{split}-{content[:16]}"
    if not folder.is_dir():
        _fill(folder, config, train=train)
    return folder


def _fill(folder: Path, config: DataConfig, *, train: bool) -> None:
    """Write a temporary folder and rename it, so that a reader never sees a part of it.

    Processes that fill the folder at the same time write equal content; the first rename wins.
    """
    classes: tuple[str, ...] = shapes.CLASSES
    if config.name == "shapes":
        images, labels = shapes.draw("train" if train else "test")
    else:
        images, labels, classes = cifar.load(config, train=train)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        np.save(temporary / "images.npy", images)
        np.save(temporary / "labels.npy", labels)
        (temporary / "classes.json").write_text(json.dumps(classes), encoding="utf-8")
        for file in temporary.iterdir():
            sync(file)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
