"""What a kind of data set has to do: say whether it is there, name its content, and write its images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]
Allocate = Callable[[int, int], Pixels]
"""Takes the number of images and their side in pixels; returns the array uint8 (N, 3, side, side) to write them to."""


@dataclass(frozen=True)
class Labels:
    """All that is known of images beside their pixels."""

    labels: NDArray[np.int64]
    """int64 (N,), in the order of the images."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the labels."""
    held_out: Indices | None = None
    """int64: positions of the validation images that the data set itself names; None: the split is drawn."""


class Source(Protocol):
    """A data set as `DataConfig` describes it. To make one costs nothing: it reads only what a method needs.

    There are two parts. `train=True` are all images that a search may see, `train=False` the test images.
    """

    def verify(self) -> None:
        """Check that the data set is there and complete, after a download if the settings ask for one.

        Raises:
            DataError: it is not. The text names the places and the remedy.
        """
        ...

    def has_test(self) -> bool:
        """Whether the data set has test images."""
        ...

    def unproven(self) -> tuple[bool, ...]:
        """The parts, as `train` has them, of which only decoding shows that they are sound. They are decoded before
        any trial, test images too, so that no training ends at a damaged one."""
        ...

    def content(self, *, train: bool) -> str:
        """A hexadecimal name of a part's arrays: another content or another form of the images has another name.

        Raises:
            DataError: the data set is not there.
        """
        ...

    def write(self, allocate: Allocate, *, train: bool) -> Labels:
        """Write the images of a part to the array that `allocate` makes; return the rest.

        Raises:
            DataError: images are missing or damaged. The text lists the first of them and the remedy.
        """
        ...
