"""Folders of images: a folder for each class, in the parts `train`, `val` and `test` or without parts."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from trainers.api import DataConfig, DataError
from trainers.data.counts import refuse_few
from trainers.data.decode import VERSION, square, squares
from trainers.data.source import Allocate, Labels

EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".jfif")
)
"""Ends of the names of images, in small letters. Other files are no images and are ignored."""
TRAIN, VALIDATION, TEST = ("train", "training"), ("val", "validation", "valid"), ("test",)
"""Names of the folders of the parts."""
LAYOUT = (
    "arrange the images as ROOT/train/CLASS/NAME.jpg, with ROOT/val and ROOT/test likewise if there are such images, "
    "or as ROOT/CLASS/NAME.jpg"
)


@dataclass(frozen=True)
class File:
    """An image file."""

    path: str
    """Relative to the root."""
    size: int
    """Bytes; 0 if it cannot be read, which decoding it reports."""
    changed: int
    """Time of its last change, nanoseconds."""


Classes = Mapping[str, tuple[File, ...]]
"""The files of each class, both in the order of their names."""


@dataclass(frozen=True)
class Listing:
    """The image files of a root."""

    train: Classes
    validation: Classes
    """Empty: the split is drawn from `train`."""
    test: Classes
    """Empty: there is no test set."""

    def files(self, *, train: bool) -> list[tuple[str, File]]:
        """Class and file of each image of a part; first those to train on, then those to validate on."""
        parts = (self.train, self.validation) if train else (self.test,)
        return [(name, file) for part in parts for name, files in part.items() for file in files]


class Folder:
    """The images of a folder, as torchvision's `ImageFolder` and timm take them."""

    def __init__(self, config: DataConfig) -> None:
        self._config = config
        self._root = os.path.expanduser(config.root)  # which leaves the home folder of nobody as it is

    def verify(self) -> None:
        """List the folder again, in case it has changed. `write` finds damaged files.

        Raises:
            DataError: it cannot be read, or its classes are not such that a network can learn them.
        """
        listing.cache_clear()
        self._listing()

    def has_test(self) -> bool:
        """Whether there is a folder `test`."""
        return bool(self._listing().test)

    def unproven(self) -> tuple[bool, ...]:
        """All parts: a file may be truncated."""
        return (True, False) if self.has_test() else (True,)

    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the labels."""
        return tuple(self._listing().train)

    def content(self, *, train: bool) -> str:
        """The SHA-256 of the root, of the size of the images, and of every file's name, size and time of change."""
        facts = [f"{VERSION} {self._config.cache_size} {os.path.realpath(self._root)}"]
        facts += [f"{file.path}\0{file.size}\0{file.changed}" for _, file in self._listing().files(train=train)]
        return hashlib.sha256("\n".join(facts).encode(errors="surrogateescape")).hexdigest()

    def write(self, allocate: Allocate, *, train: bool) -> Labels:
        """Decode every file; see `trainers.data.decode.square`."""
        found = self._listing()
        files, side = found.files(train=train), self._config.cache_size
        paths = [os.path.join(self._root, file.path) for _, file in files]
        squares(paths, paths.__getitem__, lambda path: square(path, side), allocate(len(files), side))
        numbers = {name: number for number, name in enumerate(found.train)}
        labels = np.array([numbers[name] for name, _ in files], dtype=np.int64)
        first = sum(map(len, found.train.values()))
        chosen = np.arange(first, len(files)) if train and found.validation else None
        return Labels(labels, tuple(found.train), chosen)

    def _listing(self) -> Listing:
        return listing(self._root)


@functools.lru_cache(maxsize=4)  # a worker asks for each trial, and a large folder takes seconds
def listing(root: str) -> Listing:
    """List the images of a root.

    Raises:
        DataError: the root or a folder in it cannot be read, there are no classes, a class has too few images, or the
            parts have different classes. One error lists the first ten problems and the remedy.
    """
    if not os.path.isdir(root):
        raise DataError(f"data.root: {root} {_is_no_folder(root)}; name the folder that contains the images")
    places = _places(root)
    if places:
        parts = {part: _classes(root, place) for part, place in places.items()}
        found = Listing(parts["train"], parts.get("validation", {}), parts.get("test", {}))
    else:
        found = Listing(_classes(root, ""), {}, {})
    others = {"validation": found.validation, "test": found.test}
    counts = {f"{places[part]}/": _counts(classes) for part, classes in others.items() if classes}
    refuse_few(root, _counts(found.train), counts, drawn=not found.validation, remedy=_REMEDY)
    return found


def _counts(classes: Classes) -> dict[str, int]:
    return {name: len(files) for name, files in classes.items()}


_NAMES = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
_REMEDY = f"give each class at least two images, and each part the same classes; {LAYOUT}"


def _is_no_folder(root: str) -> str:
    if os.path.exists(root):
        return "is a file, not a folder; unpack it if it is an archive"
    return "is a link to nowhere" if os.path.islink(root) else "does not exist"


def _places(root: str) -> dict[str, str]:
    """The folder of each part that there is; empty if the root itself has the folders of the classes.

    A folder `train` with images in it, and no folders, is a class: photographs of trains may lie in it.

    Raises:
        DataError: the folders contradict each other.
    """
    here = {entry.name for entry in _entries(root, "") if entry.is_dir()}
    named = {part: [name for name in names if name in here] for part, names in _NAMES.items()}
    nested = {part: [name for name in there if _has_folders(root, name)] for part, there in named.items()}
    for there in nested.values():
        if len(there) > 1:
            raise DataError(f"data.root: {root} has {' and '.join(there)}, which mean the same; keep one of them")
    if not nested["train"]:
        if others := [name for there in nested.values() for name in there]:
            raise DataError(f"data.root: {root} has {' and '.join(others)}, but no folder train; {LAYOUT}")
        return {}
    for part, there in named.items():
        if there and not nested[part]:
            raise DataError(
                f"data.root: {os.path.join(root, there[0])} has no folders of classes, so its images have no labels; "
                f"rename or remove it, or {LAYOUT}"
            )
    return {part: there[0] for part, there in nested.items() if there}


def _has_folders(root: str, name: str) -> bool:
    return any(entry.is_dir() for entry in _entries(root, name))


def _entries(root: str, place: str) -> list[os.DirEntry[str]]:
    """What is in a folder, in the order of the names, without what is hidden.

    Raises:
        DataError: it cannot be read.
    """
    folder = os.path.join(root, place)
    try:
        with os.scandir(folder) as entries:
            shown = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(
            f"data.root: {folder} cannot be read: {error.strerror}; let this user read it (chmod -R u+rX {root})"
        ) from error
    return sorted(shown, key=lambda entry: entry.name)


def _classes(root: str, place: str) -> Classes:
    entries = _entries(root, place)
    names = [entry.name for entry in entries if entry.is_dir()]
    if not names:
        what = "images, but no folder for each class" if any(map(_is_image, entries)) else "no folders of images"
        raise DataError(f"data.root: {os.path.join(root, place)} contains {what}; {LAYOUT}")
    return {name: tuple(_images(root, os.path.join(place, name))) for name in names}


def _is_image(entry: os.DirEntry[str]) -> bool:
    return os.path.splitext(entry.name)[1].lower() in EXTENSIONS


def _images(root: str, place: str, above: frozenset[str] = frozenset()) -> Iterator[File]:
    """The images of a folder and of the folders in it. Links are followed, but not in a circle."""
    here = os.path.realpath(os.path.join(root, place))
    if here in above:
        return
    for entry in _entries(root, place):
        path = os.path.join(place, entry.name)
        if entry.is_dir():
            yield from _images(root, path, above | {here})
        elif _is_image(entry):
            yield _file(entry, path)


def _file(entry: os.DirEntry[str], path: str) -> File:
    try:
        status = entry.stat()
    except OSError:
        return File(path, 0, 0)
    return File(path, status.st_size, status.st_mtime_ns)
