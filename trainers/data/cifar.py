"""CIFAR-10 and CIFAR-100 from their official Python files, with torchvision's loaders and MD5 lists."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.api import DataConfig, DataError
from trainers.data.source import Allocate, Labels


class Cifar:
    """CIFAR-10 or CIFAR-100, as `data.name` says."""

    def __init__(self, config: DataConfig) -> None:
        self._config = config

    def verify(self) -> None:
        """Check the MD5 of every official file; see `verify`."""
        verify(self._config)

    def has_test(self) -> bool:
        """Both have a test set."""
        return True

    def unproven(self) -> tuple[bool, ...]:
        """None: the MD5 proves the images."""
        return ()

    def content(self, *, train: bool) -> str:
        """The SHA-256 of the published MD5s."""
        return content_hash(self._config.name)

    def write(self, allocate: Allocate, *, train: bool) -> Labels:
        """Copy the images from the official files; see `load`."""
        images, labels, classes = load(self._config, train=train)
        allocate(len(images), images.shape[-1])[:] = images
        return Labels(labels, classes)


def verify(config: DataConfig) -> None:
    """Check the MD5 of every official file. If `config.download` is set, download missing files first.

    Raises:
        DataError: the text names the first missing or wrong file and the remedy.
    """
    source, root = _source(config.name), _root(config)
    if config.download:
        _download(source, root)
    for path, md5 in _files(source, root):
        problem = _problem(path, md5)
        if problem:
            raise DataError(f"{config.name}: {path} {problem}. {_remedy(source, root)}")


def load(config: DataConfig, *, train: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64], tuple[str, ...]]:
    """Verify the files; return images uint8 (N, 3, 32, 32), labels int64 (N,) and the class names.

    The official files are pickles. They are opened only after their MD5 has been compared with the published one.

    Raises:
        DataError: for the same reasons as in `verify`.
    """
    verify(config)
    dataset = _source(config.name)(root=str(_root(config)), train=train, download=False)
    images = np.ascontiguousarray(dataset.data.transpose(0, 3, 1, 2))
    return images, np.asarray(dataset.targets, dtype=np.int64), tuple(dataset.classes)


def content_hash(name: str) -> str:
    """Return the SHA-256 of the published MD5s, which identifies the content without reading it."""
    listed = _files(_source(name), Path())
    return hashlib.sha256("".join(md5 for _, md5 in listed).encode()).hexdigest()


def _source(name: str) -> Any:
    from torchvision.datasets import CIFAR10, CIFAR100

    return {"cifar10": CIFAR10, "cifar100": CIFAR100}[name]


def _root(config: DataConfig) -> Path:
    return Path(os.path.expanduser(config.root))  # which leaves the home folder of nobody as it is


def _files(source: Any, root: Path) -> list[tuple[Path, str]]:
    folder = root / source.base_folder
    listed = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
    return [(folder / name, md5) for name, md5 in listed]


def _problem(path: Path, expected: str) -> str:
    if not path.is_file():
        return "is missing"
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    if digest.hexdigest() == expected:
        return ""
    size = path.stat().st_size
    return f"is truncated or altered ({size} bytes, MD5 {digest.hexdigest()}, published {expected})"


def _remedy(source: Any, root: Path) -> str:
    return (
        f"Set data.root to the folder that contains {source.base_folder}; or set data.download=true; or download "
        f"{source.url} and unpack it in {root}"
    )


def _download(source: Any, root: Path) -> None:
    try:
        # torchvision writes its progress to stdout, which is for the results of the program.
        with contextlib.redirect_stdout(sys.stderr):
            source(root=str(root), train=True, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"cannot download {source.url} to {root}: {error}. {_remedy(source, root)}") from error
