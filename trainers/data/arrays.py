"""The arrays of decoded images on the disk: written once per machine, completely or not at all, and then mapped."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from trainers.api import DataError
from trainers.data.source import Labels, Pixels, Source
from trainers.files import replace_atomically, sync

ORIGIN = "origin.json"
"""File beside the arrays that says of which images they are, whatever those contain now."""
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
        with _alone(folder.parent) as alone:
            if not folder.is_dir():
                if alone:
                    _remove_abandoned(folder.parent)
                _fill(folder, source, train=train)
    return folder


def read(folder: Path) -> tuple[Pixels, Labels]:
    """The images, uint8 (N, 3, H, W), as a mapped file, and what belongs to them."""
    images = _mapped(folder / "images.npy")
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    classes = tuple(json.loads((folder / "classes.json").read_text(encoding="utf-8")))
    chosen = folder / "held_out.npy"
    return images, Labels(labels, classes, np.load(chosen, allow_pickle=False) if chosen.exists() else None)


def _mapped(path: Path) -> Pixels:
    """An array as a mapped file, with a shared lock on the file: it lasts as long as the array, which keeps it open."""
    with open(path, "rb") as file:
        with suppress(OSError):  # a file system without locks, on which nothing is removed
            fcntl.flock(file, fcntl.LOCK_SH)
        np.lib.format.read_magic(file)
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
        # Mode "c" is a private mapping: torch needs a writable array, but a write never reaches the file.
        return np.memmap(file, kind, "c", file.tell(), shape)


def replace_former(folder: Path, origin: Sequence[object]) -> None:
    """Note that `folder` has what `origin` contains now, and remove what it contained before.

    What a process has mapped stays, until the next call.
    """
    noted = json.dumps(origin)
    if not (folder / ORIGIN).exists():
        replace_atomically(folder / ORIGIN, lambda path: path.write_text(noted, encoding="utf-8"))
    for file in folder.parent.glob(f"*/{ORIGIN}"):
        if file.parent != folder and file.read_text(encoding="utf-8") == noted:
            _remove_unused(file.parent)


def _remove_unused(folder: Path) -> None:
    """Remove a folder of arrays, unless a process has them mapped or another one removes it."""
    with suppress(OSError), open(folder / "images.npy", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        gone = folder.with_name(f".{folder.name}-gone")
        folder.rename(gone)  # a name that nobody looks for: no reader finds a part of it
        shutil.rmtree(gone, ignore_errors=True)


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


def _remove_abandoned(parent: Path) -> None:
    """Remove what processes that were killed had begun to write. None writes now, because this one holds the lock."""
    for folder in parent.iterdir():
        if folder.name.startswith("."):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Hold a lock on a folder. The operating system frees it when the process ends, however that happens.

    Yields False on a file system without locks: two processes may then do the same work.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        alone = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            alone = False
        yield alone
    finally:
        os.close(handle)
