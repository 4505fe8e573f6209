"""Image files of any kind as uint8 squares, decoded by all cores."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import IO, Any, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from trainers.api import DataError
from trainers.data.source import Pixels

VERSION = 1
"""Increase this with every change of the pixels: cached arrays are named after it."""
SHOWN = 10
"""Offenders that an error lists."""
_CHUNK = 32
"""Images that a thread decodes before it asks for more."""
_FLOATS = "its pixels are floating-point numbers of unknown range; save it with 8 or 16 bits per channel"

T = TypeVar("T")


class Unusable(Exception):
    """An image that cannot be decoded. The text says why, without its name."""


class DamagedImages(DataError):
    """Some images cannot be decoded. The text lists the first of them and the remedy."""

    def __init__(self, lines: Sequence[str], count: int) -> None:
        """`lines` name the images and say what is wrong with each; `count` images were to be decoded."""
        super().__init__(lines, count)
        self.lines, self.count = tuple(lines), count

    def __str__(self) -> str:
        return listed(f"{len(self.lines):,} of {self.count:,} images cannot be used", self.lines, _REMEDY)


def square(file: str | IO[bytes] | Image.Image, side: int) -> Pixels:
    """Decode an image, resize its shorter side to `side` px and cut out the centre: uint8 (3, side, side), RGB.

    The orientation of EXIF is applied. Of an animation the first frame is taken. 16 bits become their upper 8. As in
    torchvision, transparency is ignored.

    Raises:
        Unusable: the file is empty, truncated or no image, or cannot be read.
    """
    try:
        if isinstance(file, str) and not os.path.getsize(file):
            raise Unusable("it is empty (0 bytes)")
        with file if isinstance(file, Image.Image) else Image.open(file) as image:
            image.draft(None, (2 * side, 2 * side))  # lets a JPEG be decoded at a fraction of its size
            whole = _rgb(ImageOps.exif_transpose(image))
        if whole.size != (side, side):
            whole = ImageOps.fit(whole, (side, side), Image.Resampling.BICUBIC)
        pixels: Pixels = np.asarray(whole).transpose(2, 0, 1)
        return pixels
    except Unusable:
        raise
    except FileNotFoundError as error:
        raise Unusable("it is a link to a file that does not exist") from error
    except UnidentifiedImageError as error:
        raise Unusable("it is not an image of a known format") from error
    except OSError as error:
        raise Unusable(f"it cannot be read: {error.strerror or error}") from error
    except Image.DecompressionBombError as error:
        raise Unusable("it has more pixels than Pillow accepts; save it smaller") from error
    except (ValueError, SyntaxError, TypeError, LookupError, ArithmeticError, EOFError, struct.error) as error:
        raise Unusable(f"it is damaged: {error}") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise Unusable(_FLOATS)
    if image.mode.startswith("I"):  # 16 bits; "I" is Pillow's form of them for some formats
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray((values >> 8).astype(np.uint8)).convert("RGB")
    if "transparency" in image.info and image.mode != "RGBA":
        image = image.convert("RGBA")
    return image.convert("RGB")


def squares(items: Sequence[T], names: Callable[[int], str], decode: Callable[[T], Pixels], images: Pixels) -> None:
    """Decode all `items` into `images`, uint8 (N, 3, side, side), with a thread per core and a progress bar.

    Pillow frees Python's lock while it decodes and resizes. The bar stands on standard error if that is a terminal.

    Raises:
        DamagedImages: some items are unusable. The text calls them by `names`.
    """
    offenders: dict[int, str] = {}

    def decode_chunk(start: int) -> int:
        stop = min(start + _CHUNK, len(items))
        for position in range(start, stop):
            try:
                images[position] = decode(items[position])
            except Unusable as error:
                offenders[position] = str(error)
        return stop - start

    _each(decode_chunk, range(0, len(items), _CHUNK), len(items))
    if offenders:
        raise DamagedImages([f"{names(position)}: {offenders[position]}" for position in sorted(offenders)], len(items))


_REMEDY = "repair these files or delete them, and start again"


def _each(work: Callable[[int], int], starts: Iterable[int], total: int) -> None:
    """Call `work` for each start in threads, and show the sum of what it returns."""
    Image.init()  # loads every format now, and not in several threads at once
    # Filters of warnings belong to the whole process, so they are set outside of the threads.
    with warnings.catch_warnings(), tqdm(total=total, desc="decoding images", unit=" images", disable=None) as bar:
        warnings.filterwarnings("ignore", module=r"PIL\..*")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        pool = ThreadPoolExecutor(cores())
        try:
            for done in as_completed([pool.submit(work, start) for start in starts]):
                bar.update(done.result())
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C, what is not begun is not done


def cores() -> int:
    """How many CPU cores this process may use."""
    bound: Callable[[int], Any] | None = getattr(os, "sched_getaffinity", None)
    return len(bound(0)) if bound else os.cpu_count() or 1


def listed(what: str, offenders: Sequence[str], remedy: str) -> str:
    """The text of one error about many things: their number, the first ten, and the remedy."""
    rest = len(offenders) - SHOWN
    more = [f"and {rest:,} more"] if rest > 0 else []
    return "\n".join([f"{what}:", *(f"  {line}" for line in [*offenders[:SHOWN], *more]), f"Remedy: {remedy}."])
