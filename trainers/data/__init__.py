"""The data sets: verified, decoded once per machine into memory-mapped arrays, and kept on the device if they fit.

All trials of a machine map the same files, so the operating system keeps one copy in memory for all of them. On CUDA,
each process keeps one uint8 tensor per data set on the device, unless it is too large (`trainers.data.images`).

Never: gives the test split to a search. Only `trainers.retrain` may open it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainers.api import DataConfig, DataError
from trainers.data import arrays
from trainers.data.cifar import Cifar
from trainers.data.decode import DamagedImages
from trainers.data.folder import Folder
from trainers.data.hub import Hub
from trainers.data.images import Images, placed
from trainers.data.shapes import Shapes
from trainers.data.source import Indices, Labels, Source
from trainers.data.split import Split, limited, stratified

if TYPE_CHECKING:
    import torch

__all__ = [
    "SOURCES",
    "DataInfo",
    "Images",
    "all_training_images",
    "has_test_split",
    "open_test_split",
    "place_to_check",
    "prepare",
    "remove_former",
    "train_and_validation",
]

SOURCES: Mapping[str, Callable[[DataConfig], Source]] = {
    "shapes": Shapes,
    "cifar10": Cifar,
    "cifar100": Cifar,
    "folder": Folder,
    "hf": Hub,
}
"""What each `data.name` means."""


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


def prepare(config: DataConfig, cache_dir: str) -> DataInfo:
    """Verify the source files, after a download if `config.download` is set; fill the cache and compute the split.

    The driver calls this once before any trial, so that a study never starts with bad data.

    Raises:
        DataError: a file is missing, truncated or not the published one. The text names the path and the remedy.
    """
    source = _source(config)
    source.verify()
    _decode_unproven(config, cache_dir, source.unproven())
    found = _labels(config, cache_dir, train=True)
    split = _split(config, found)
    return DataInfo(len(found.classes), found.classes, len(split.train), len(split.validation), split.hash)


def _decode_unproven(config: DataConfig, cache_dir: str, parts: Iterable[bool]) -> None:
    """Decode the parts, and report the damaged images of all of them in one error."""
    damaged = []
    for train in parts:
        try:
            _folder(config, cache_dir, train=train)
        except DamagedImages as error:
            damaged.append(error)
    if damaged:
        lines = [line for error in damaged for line in error.lines]
        raise DamagedImages(lines, sum(error.count for error in damaged))


def remove_former(config: DataConfig, cache_dir: str) -> None:
    """After `prepare`: remove from the cache what the images of a folder were before it changed.

    One copy stays for each folder and `data.cache_size`, and each copy that a process uses.
    """
    source = _source(config)
    place = config.hub or os.path.realpath(os.path.expanduser(config.root))
    for part in source.unproven():
        folder = _place(config, source, cache_dir, train=part)
        arrays.replace_former(folder, [config.name, place, config.cache_size, part])


def place_to_check(config: DataConfig, cache_dir: str, scratch: str) -> str:
    """Return where to `prepare` a data set if nothing may be kept: `cache_dir` if it is ready there, else `scratch`.

    Raises:
        DataError: a folder of images cannot be read, or its classes cannot be learnt.
    """
    source = _source(config)
    parts = source.unproven()
    ready = parts and all(_place(config, source, cache_dir, train=part).is_dir() for part in parts)
    return cache_dir if ready else scratch


def train_and_validation(config: DataConfig, cache_dir: str, device: str, share: float = 1.0) -> tuple[Images, Images]:
    """Return the training and the validation images of a trial that has `share` (0 to 1) of the device.

    A `Notice` says once per process if they stay on the host.

    Raises:
        DataError: the cache is empty on this machine, and a source file is missing or damaged.
    """
    whole, found = _whole(config, cache_dir, device, share, train=True)
    split = _split(config, found)
    train, validation = (replace(whole, indices=_to(part, device)) for part in (split.train, split.validation))
    return train, validation


def all_training_images(config: DataConfig, cache_dir: str, device: str, share: float = 1.0) -> Images:
    """Return training and validation images together, as a final training uses them. The limits apply."""
    train, validation = train_and_validation(config, cache_dir, device, share)
    import torch

    # Sorted, so that the order of an epoch does not depend on the split.
    both = torch.cat([train.indices, validation.indices]).sort().values
    return replace(train, indices=both)


def has_test_split(config: DataConfig) -> bool:
    """Whether the data set has test images.

    Raises:
        DataError: a folder of images is not there.
    """
    return _source(config).has_test()


def open_test_split(config: DataConfig, cache_dir: str, device: str, share: float = 1.0) -> Images:
    """Return the official test split. Nothing else opens it, and only `trainers.retrain` may call this.

    Raises:
        DataError: the data set has none.
    """
    if not has_test_split(config):
        raise DataError(f"the data set {config.name} in {config.root} has no test images")
    return _whole(config, cache_dir, device, share, train=False)[0]


def _source(config: DataConfig) -> Source:
    return SOURCES[config.name](config)


def _split(config: DataConfig, found: Labels) -> Split:
    """The validation images that the data set names, or a stratified share of all; each within its limit."""
    limits = {"train_limit": config.train_limit, "validation_limit": config.validation_limit}
    if found.held_out is not None:
        return limited(found.labels, found.held_out, **limits)
    return stratified(found.labels, config.validation_fraction, config.split_seed, **limits)


def _to(array: Indices, device: str) -> torch.Tensor:
    import torch

    return torch.from_numpy(array).to(device)


def _labels(config: DataConfig, cache_dir: str, *, train: bool) -> Labels:
    return arrays.read(_folder(config, cache_dir, train=train))[1]


def _whole(config: DataConfig, cache_dir: str, device: str, share: float, *, train: bool) -> tuple[Images, Labels]:
    return _kept(str(_folder(config, cache_dir, train=train)), device, share)


@lru_cache(maxsize=4)
def _kept(folder: str, device: str, share: float) -> tuple[Images, Labels]:
    """All images of a folder of arrays, and their labels with names, once per process and device."""
    pixels, found = arrays.read(Path(folder))
    images, place = placed(pixels, device, share)
    every = _to(np.arange(len(found.labels)), device)
    return Images(images, _to(found.labels, device), every, found.classes, place), found


def _folder(config: DataConfig, cache_dir: str, *, train: bool) -> Path:
    """The folder of the decoded arrays, filled if it does not exist."""
    source = _source(config)
    return arrays.filled(_place(config, source, cache_dir, train=train), source, train=train)


def _place(config: DataConfig, source: Source, cache_dir: str, *, train: bool) -> Path:
    """The name of that folder contains the hash of the source."""
    part = "train" if train else "test"
    return Path(cache_dir) / "data" / f"{config.name}-{part}-{source.content(train=train)[:16]}"
