"""Whether the classes of a data set can be learnt, by the number of images of each class in each part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trainers.api import DataError
from trainers.data.decode import listed

Counts = Mapping[str, int]
"""The number of images of each class."""


def refuse_few(place: str, train: Counts, others: Mapping[str, Counts], *, drawn: bool, remedy: str) -> None:
    """Raise an error unless there are two classes, each has enough images, and all parts have the same classes.

    Args:
        place: what the error calls the data set.
        others: the validation and the test part, if there are any, by the name that the error gives them.
        drawn: whether validation images are drawn from `train`, so that each class needs two.
        remedy: what to do.

    Raises:
        DataError: it lists the first ten problems.
    """
    problems = [*_few(train, drawn), *(line for part, counts in others.items() for line in _other(train, part, counts))]
    if problems:
        raise DataError(listed(f"data.root: the classes in {place} cannot be learnt", problems, remedy))


def _few(train: Counts, drawn: bool) -> Iterator[str]:
    if len(train) < 2:
        yield f"there is a single class, {next(iter(train))}; a classifier needs two"
    for name, count in train.items():
        if not _is_text(name):
            yield f"{name!r} is not UTF-8, so it cannot be the name of a class"
        if not count:
            yield f"{name} has no images to train on"
        elif count == 1 and drawn:
            yield f"{name} has a single image, but training and validation need one each"


def _other(train: Counts, part: str, counts: Counts) -> Iterator[str]:
    for name in sorted(train.keys() | counts.keys()):
        if name not in train:
            yield f"{name} is in {part}, but not among the images to train on"
        elif train[name] and not counts.get(name):
            yield f"{name} has images to train on, but none in {part}"


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
