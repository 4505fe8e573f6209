"""The data sets: verified, decoded once per machine into memory-mapped arrays, and kept on the device.

Every trial of a machine maps the same files, so the operating system's page cache holds one copy for all of
them; on CUDA each process keeps one uint8 tensor per data set on the device.

Never: opens the test split for a search; only `trainers.retrain` may ask for it.
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
    """What the driver needs to know and record of a study's data."""

    num_classes: int
    classes: tuple[str, ...]
    train_count: int
    validation_count: int
    split_hash: str
    """SHA-256 of the train and validation indices."""


@dataclass(frozen=True)
class Images:
    """A part of a data set on the device; a batch is `images[indices[...]]`, nothing is copied before."""

    images: torch.Tensor
    """(M, 3, 32, 32) uint8: the whole official split."""
    labels: torch.Tensor
    """(M,) int64."""
    indices: torch.Tensor
    """(N,) int64 on the same device: the positions that belong to this part."""
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.indices)


def prepare(config: DataConfig, cache_dir: str) -> DataInfo:
    """Verify the source files (downloading them if told to), fill the cache and compute the split.

    Called once by the driver before any trial, so that a study never starts on bad data.

    Raises:
        DataError: files are missing, truncated or not the published ones; names the path and the remedy.
    """
    if config.name != "shapes":
        cifar.verify(config)
    classes, labels = _arrays(config, cache_dir, train=True)[1:]
    split = _split(config, labels)
    return DataInfo(len(classes), classes, len(split.train), len(split.validation), split.hash)


def train_and_validation(config: DataConfig, cache_dir: str, device: str) -> tuple[Images, Images]:
    """The two parts of the training set that a trial sees.

    Raises:
        DataError: the cache is empty on this machine and the source files are not good.
    """
    images, classes, labels = _on_device(config, cache_dir, device, train=True)
    split = _split(config, labels.cpu().numpy())
    train, validation = (Images(images, labels, _to(part, device), classes) for part in (split.train, split.validation))
    return train, validation


def all_training_images(config: DataConfig, cache_dir: str, device: str) -> Images:
    """Train and validation part together, limits included: what a final training uses."""
    train, validation = train_and_validation(config, cache_dir, device)
    import torch

    # Sorted, so that the order of an epoch does not depend on how the parts were cut.
    both = torch.cat([train.indices, validation.indices]).sort().values
    return dataclasses.replace(train, indices=both)


def open_test_split(config: DataConfig, cache_dir: str, device: str) -> Images:
    """The official test split. The only way to it; only `trainers.retrain` may call this."""
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
    """Images, class names, labels; once per process and device. On the CPU the images stay a file mapping."""
    import torch

    images, classes, labels = _read(Path(folder))
    return torch.from_numpy(images).to(device), classes, torch.from_numpy(labels).to(device)


def _arrays(
    config: DataConfig, cache_dir: str, *, train: bool
) -> tuple[NDArray[np.uint8], tuple[str, ...], NDArray[np.int64]]:
    return _read(_folder(config, cache_dir, train=train))


def _read(folder: Path) -> tuple[NDArray[np.uint8], tuple[str, ...], NDArray[np.int64]]:
    # "c" maps privately: torch wants a writable array, and nobody's write could reach the file.
    images = np.load(folder / "images.npy", mmap_mode="c", allow_pickle=False)
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    classes = tuple(json.loads((folder / "classes.json").read_text(encoding="utf-8")))
    return images, classes, labels


def _folder(config: DataConfig, cache_dir: str, *, train: bool) -> Path:
    """The folder of decoded arrays, filled if it is not there yet. Its name carries the source's hash."""
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
    """Write a temporary folder and rename it, so that a reader never sees half of it.

    Processes that fill it at the same time write equal content; the first rename wins.
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
