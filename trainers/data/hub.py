"""Data sets of the Hugging Face library `datasets`: saved on the disk, or of the Hub."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.api import DataConfig, DataError
from trainers.data.counts import Counts, refuse_few
from trainers.data.decode import VERSION, Unusable, square, squares
from trainers.data.folder import TEST, TRAIN, VALIDATION
from trainers.data.source import Allocate, Labels, Pixels

INSTALL = "data.name hf needs the package datasets: pip install 'hpo-efficientnetv2[hf]'"
_REMEDY = "give each class at least two images, and each split the same classes, with the library datasets"


@dataclass(frozen=True)
class Part:
    """A split of a data set."""

    name: str
    images: Any
    """A `datasets.Dataset` whose images are not decoded."""
    column: str
    """The column of the images."""
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    fingerprint: str

    def counts(self) -> Counts:
        """The number of images of each class."""
        numbers = np.bincount(self.labels, minlength=len(self.classes))
        return dict(zip(self.classes, numbers.tolist(), strict=True))


class Hub:
    """A data set with a column of images and one of class labels."""

    def __init__(self, config: DataConfig) -> None:
        self._config = config

    def verify(self) -> None:
        """Open the data set anew, after a download if it is one of the Hub. `write` finds damaged images.

        Raises:
            DataError: there is none, it has other columns, or its classes cannot be learnt.
        """
        parts.cache_clear()
        self._parts()

    def has_test(self) -> bool:
        """Whether there is a split `test` with labels."""
        return "test" in self._parts()

    def unproven(self) -> tuple[bool, ...]:
        """All parts: an image may be truncated."""
        return (True, False) if self.has_test() else (True,)

    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the labels."""
        return self._parts()["train"].classes

    def content(self, *, train: bool) -> str:
        """The SHA-256 of the fingerprints that `datasets` gives the splits, and of the size of the images."""
        facts = [str(VERSION), str(self._config.cache_size), *(part.fingerprint for part in self._of(train=train))]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()

    def write(self, allocate: Allocate, *, train: bool) -> Labels:
        """Decode every image; see `trainers.data.decode.square`."""
        chosen, side = self._of(train=train), self._config.cache_size
        rows = [(part, row) for part in chosen for row in range(len(part.labels))]

        def decode(place: tuple[Part, int]) -> Pixels:
            part, row = place
            return _decoded(part.images[row][part.column], side)

        def name(position: int) -> str:
            part, row = rows[position]
            return f"row {row} of {part.name}"

        squares(rows, name, decode, allocate(len(rows), side))
        labels = np.concatenate([part.labels for part in chosen])
        first = len(chosen[0].labels)
        return Labels(labels, self.classes(), np.arange(first, len(labels)) if len(chosen) > 1 else None)

    def _of(self, *, train: bool) -> list[Part]:
        names = ("train", "validation") if train else ("test",)
        return [part for name, part in self._parts().items() if name in names]

    def _parts(self) -> Mapping[str, Part]:
        return parts(os.path.expanduser(self._config.root), self._config.hub)


def _decoded(image: Mapping[str, Any] | None, side: int) -> Pixels:
    """An image as `datasets` stores it: its bytes, or the path of its file."""
    if image is None or (not image["bytes"] and not image["path"]):
        raise Unusable("it is missing")
    return square(io.BytesIO(image["bytes"]) if image["bytes"] else image["path"], side)


@functools.lru_cache(maxsize=4)  # a worker asks for each trial
def parts(root: str, hub: str | None) -> Mapping[str, Part]:
    """Open the splits for training, validation and test, in this order; the last two only if there are such.

    Raises:
        DataError: as `Hub.verify`.
    """
    place, splits = hub or root, _opened(root, hub)
    named = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    chosen = {part: name for part, names in named.items() for name in reversed(names) if name in splits}
    if "train" not in chosen:
        raise DataError(f"data.root: {place} has the splits {', '.join(splits)}, but none named train; rename one")
    found = {part: _part(place, name, splits[name]) for part, name in chosen.items()}
    if "test" in found and (found["test"].labels < 0).any():
        del found["test"]  # the Hub keeps such labels back
    for part in found.values():
        if (part.labels < 0).any():
            raise DataError(f"data.root: split {part.name} of {place} has images without a label; remove them")
    others = {f"the split {part.name}": part.counts() for name, part in found.items() if name != "train"}
    refuse_few(place, found["train"].counts(), others, drawn="validation" not in found, remedy=_REMEDY)
    return found


def _opened(root: str, hub: str | None) -> dict[str, Any]:
    """The splits by name."""
    if importlib.util.find_spec("datasets") is None:
        raise DataError(INSTALL)
    import datasets

    try:
        opened = datasets.load_dataset(hub) if hub else datasets.load_from_disk(root)
    except Exception as error:
        raise DataError(_unloadable(root, hub, error)) from error
    return dict(opened) if isinstance(opened, datasets.DatasetDict) else {"train": opened}


def _unloadable(root: str, hub: str | None, error: Exception) -> str:
    """What `datasets` says in its first two lines, of which the second lists what there is, and the remedy."""
    said = shorten(" ".join(str(error).splitlines()[:2]) or type(error).__name__, 300, placeholder=" ...")
    if hub:
        return (
            f"data.hub: {hub} cannot be loaded: {said}; check the name, the network, HF_TOKEN and HF_HUB_OFFLINE; or "
            "load it with datasets.load_dataset, which also takes a configuration and a revision, save it with "
            "save_to_disk, and set data.root instead of data.hub"
        )
    return (
        f"data.root: {root} is no data set on disk: {said}; name a folder that save_to_disk has written, or set "
        "data.hub to the name of a data set of the Hub"
    )


def _part(place: str, name: str, split: Any) -> Part:
    import datasets

    image = _column(place, split, datasets.Image, "images", "cast_column(NAME, datasets.Image())")
    label = _column(place, split, datasets.ClassLabel, "class labels", "class_encode_column(NAME)")
    labels = np.array([-1 if value is None else value for value in split[label]], dtype=np.int64)
    raw = split.cast_column(image, datasets.Image(decode=False))
    return Part(name, raw, image, labels, tuple(split.features[label].names), str(split._fingerprint))


def _column(place: str, split: Any, kind: type, what: str, how: str) -> str:
    """The only column of a kind, or the one of several with the usual name."""
    names = [name for name, feature in split.features.items() if isinstance(feature, kind)]
    usual = [name for name in names if name in ("image", "img", "label", "fine_label", "labels")]
    if len(names) == 1 or len(usual) == 1:
        return str((usual or names)[0])
    have = ", ".join(split.features) if not names else ", ".join(names)
    raise DataError(
        f"data.root: {place} has {'several columns' if names else 'no column'} of {what} (columns: {have}); make one "
        f"with {how} or remove_columns of the library datasets, and save it with save_to_disk"
    )
