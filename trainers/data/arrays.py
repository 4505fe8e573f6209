"""The arrays of decoded images on the disk: written once per machine, completely or not at all, and then mapped."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from trainers.api import DataError
from trainers.data.source import Labels, Pixels, Source
from trainers.files import sync

SPARE = 1.05
"""Free space to ask for before images are written, as a multiple of their size."""


def filled(folder: Path, source: Source, *, train: bool) -> Path:
    """Return `folder`, filled with a part of `source` if it does not exist.

    Where several processes of a machine need it at once, one of them decodes and the others wait.

    Raises:
        DataError: an image is damaged, or the disk is too small.
    """
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.parent):
            if not folder.is_dir():
                _fill(folder, source, train=train)
    return folder


def read(folder: Path) -> tuple[Pixels, Labels]:
    """The images, uint8 (N, 3, H, W), as a mapped file, and what belongs to them."""
    # Mode "c" is a private mapping: torch needs a writable array, but a write never reaches the file.
    images = np.load(folder / "images.npy", mmap_mode="c", allow_pickle=False)
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    classes = tuple(json.loads((folder / "classes.json").read_text(encoding="utf-8")))
    chosen = folder / "held_out.npy"
    return images, Labels(labels, classes, np.load(chosen, allow_pickle=False) if chosen.exists() else None)


def _fill(folder: Path, source: Source, *, train: bool) -> None:
    """Write a temporary folder and rename it, so that a reader never sees a part of it.

    The rename also decides between machines that share the folder and whose locks do not reach each other.
    """
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))

    def allocate(count: int, side: int) -> Pixels:
        _refuse_small_disk(temporary, count, side)
        images: Pixels = open_memmap(temporary / "images.npy", "w+", np.uint8, (count, 3, side, side))
        return images

    try:
        labels = source.write(allocate, train=train)
        np.save(temporary / "labels.npy", labels.labels)
        (temporary / "classes.json").write_text(json.dumps(labels.classes), encoding="utf-8")
        if labels.held_out is not None:
            np.save(temporary / "held_out.npy", labels.held_out)
        for file in temporary.iterdir():
            sync(file)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_small_disk(folder: Path, count: int, side: int) -> None:
    """A write to a mapped file on a full disk kills the process, so the space is compared before."""
    needed, free = SPARE * count * 3 * side**2, shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{count:,} decoded images of {side} px need {needed / 1e9:.1f} GB in {folder.parent}, where "
            f"{free / 1e9:.1f} GB are free; free some space, choose another home folder, or lower data.cache_size"
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder. The operating system frees it when the process ends, however that happens."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks: two processes may then do the same work
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
