"""The built-in data set "generated shapes": 32x32 images of ten kinds of shapes and textures, always the same.

A network of 0.1 million parameters learns them in half a minute with good settings, and does not with bad ones. Each
image has its own colours (unrelated to the class), position, scale, rotation, shading, clutter and noise. Nothing is
downloaded. Each image is a function of its split and index; only the last bit of sines may differ between machines.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.api import DataConfig
from trainers.data.source import Allocate, Labels

VERSION = 2
"""Increase this with every change of the images: cached copies are named after it."""
SIZE = 32
COUNTS = {"train": 10_000, "test": 2_000}
CLASSES = (
    "disc", "square", "triangle", "cross", "star", "ring", "stripes", "checkers", "dots", "waves",
)  # fmt: skip

Floats = NDArray[np.floating[Any]]
_SEEDS = {"train": 20_210_401, "test": 20_210_402}
_CHUNK = 500
_SOFT = 0.7
"""Width of the soft edge of an outline, pixels."""


class Shapes:
    """The generated shapes."""

    def __init__(self, config: DataConfig) -> None:
        """The settings have nothing to say about them."""

    def verify(self) -> None:
        """Nothing can be missing."""

    def has_test(self) -> bool:
        """There is a test set."""
        return True

    def unproven(self) -> tuple[bool, ...]:
        """None: they are computed."""
        return ()

    def content(self, *, train: bool) -> str:
        """The SHA-256 of the version of the images and of their number."""
        return hashlib.sha256(f"{VERSION} {COUNTS}".encode()).hexdigest()

    def write(self, allocate: Allocate, *, train: bool) -> Labels:
        """Draw the images."""
        images, labels = draw("train" if train else "test")
        allocate(len(images), SIZE)[:] = images
        return Labels(labels, CLASSES)


def draw(split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images uint8 (N, 3, 32, 32) and labels int64 (N,) of split `train` or `test`; classes are balanced."""
    count = COUNTS[split]
    # NumPy promises that the stream of RandomState never changes (NEP 19), unlike that of `default_rng`.
    random = np.random.RandomState(_SEEDS[split])
    labels = np.arange(count, dtype=np.int64) % len(CLASSES)
    images = np.empty((count, 3, SIZE, SIZE), dtype=np.uint8)
    for start in range(0, count, _CHUNK):
        chunk = slice(start, min(start + _CHUNK, count))
        images[chunk] = _draw(labels[chunk], random)
    return images, labels


def _draw(labels: NDArray[np.int64], random: np.random.RandomState) -> NDArray[np.uint8]:
    count = len(labels)
    background, foreground, second = _colours(count, random)
    canvas = _clutter(background[:, :, None, None] + _shading(count, random), random)
    x, y = _pose(count, random)
    mask: Floats = np.zeros((count, SIZE, SIZE), dtype=np.float32)
    for label, outline in enumerate(_OUTLINES):
        here = labels == label
        mask[here] = outline(x[here], y[here], random)
    mask = mask[:, None]
    ink = foreground[:, :, None, None] + 0.5 * _shading(count, random)
    canvas = _occlude(canvas * (1 - mask) + ink * mask, second, random)
    canvas = canvas + random.normal(0, 1, canvas.shape).astype(np.float32) * _uniform(random, (count, 1, 1, 1), 2, 12)
    return canvas.clip(0, 255).astype(np.uint8)


def _uniform(random: np.random.RandomState, shape: tuple[int, ...], low: float, high: float) -> Floats:
    return random.uniform(low, high, shape).astype(np.float32)


def _colours(count: int, random: np.random.RandomState) -> tuple[Floats, Floats, Floats]:
    """Colours of background, shape and bar, each (N, 3). The shape is at least 60 grey levels brighter or darker."""
    background = _uniform(random, (count, 3), 40, 215)
    shift = _uniform(random, (count, 3), -35, 35)
    contrast = _uniform(random, (count, 1), 60, 130)
    brighter = background.mean(axis=1, keepdims=True) + random.uniform(-60, 60, (count, 1)) < 128
    ink = background + np.where(brighter, contrast, -contrast) + shift - shift.mean(axis=1, keepdims=True)
    return background, ink.astype(np.float32), _uniform(random, (count, 3), 0, 255)


def _grid() -> tuple[Floats, Floats]:
    axis = np.arange(SIZE, dtype=np.float32) - (SIZE - 1) / 2
    return np.broadcast_to(axis, (SIZE, SIZE)), np.broadcast_to(axis[:, None], (SIZE, SIZE))


def _shading(count: int, random: np.random.RandomState) -> Floats:
    """A linear gradient of up to 25 grey levels across the image: (N, 1, 32, 32)."""
    x, y = _grid()
    angle = _uniform(random, (count, 1, 1), 0, 2 * np.pi)
    slope = _uniform(random, (count, 1, 1), 0, 25 / SIZE)
    return (slope * (np.cos(angle) * x + np.sin(angle) * y))[:, None]


def _pose(count: int, random: np.random.RandomState) -> tuple[Floats, Floats]:
    """Coordinates of the pixels in the frame of each shape, x and y (N, 32, 32). A shape extends from -1 to 1."""
    x, y = _grid()
    shape = (count, 1, 1)
    angle = _uniform(random, shape, 0, 2 * np.pi)
    radius = _uniform(random, shape, 9, 14)
    x = x - _uniform(random, shape, -3, 3)
    y = y - _uniform(random, shape, -3, 3)
    squeeze = _uniform(random, shape, 0.75, 1.0)
    u = (np.cos(angle) * x + np.sin(angle) * y) / radius
    v = (np.cos(angle) * y - np.sin(angle) * x) / (radius * squeeze)
    return u.astype(np.float32), v.astype(np.float32)


def _clutter(canvas: Floats, random: np.random.RandomState) -> Floats:
    """Three faint blobs and three faint strokes behind the shape."""
    x, y = _grid()
    count = len(canvas)
    shape = (count, 1, 1)
    for number in range(6):
        dx, dy = x - _uniform(random, shape, -15, 15), y - _uniform(random, shape, -15, 15)
        angle = _uniform(random, shape, 0, np.pi)
        along = np.cos(angle) * dx + np.sin(angle) * dy
        across = np.cos(angle) * dy - np.sin(angle) * dx
        length, width = ((4, 4), (8, 0.8))[number % 2]
        spot = np.exp(-((along / length) ** 2 + (across / width) ** 2))[:, None]
        canvas = canvas + spot * _uniform(random, (count, 3, 1, 1), -30, 30)
    return canvas.astype(np.float32)


def _occlude(canvas: Floats, colour: Floats, random: np.random.RandomState) -> Floats:
    """A bar in front of half of the images, so that no part of a shape is always visible."""
    x, y = _grid()
    shape = (len(canvas), 1, 1)
    angle = _uniform(random, shape, 0, np.pi)
    distance = np.abs(np.cos(angle) * x + np.sin(angle) * y - _uniform(random, shape, -12, 12))
    width = _uniform(random, shape, 1.0, 2.5) * (random.uniform(size=shape) < 0.5)
    bar = np.clip(width - distance, 0, 1)[:, None]
    return (canvas * (1 - bar) + colour[:, :, None, None] * bar).astype(np.float32)


def _edge(distance: Floats) -> Floats:
    """1 inside (negative distance, in units of the shape's radius), 0 outside, soft in between."""
    inside: Floats = np.clip(0.5 - distance * 9 / _SOFT, 0, 1).astype(np.float32)
    return inside


def _patch(x: Floats, y: Floats, pattern: Floats) -> Floats:
    """A texture inside a round patch, so that the outline does not reveal the class."""
    ink: Floats = np.clip(0.5 + 3 * pattern, 0, 1)
    return _edge(np.hypot(x, y) - 1.15) * ink


def _disc(x: Floats, y: Floats, random: np.random.RandomState) -> Floats:
    return _edge(np.hypot(x, y) - 0.85)


def _square(x: Floats, y: Floats, random: np.random.RandomState) -> Floats:
    return _edge(np.maximum(np.abs(x), np.abs(y)) - 0.78)


def _triangle(x: Floats, y: Floats, random: np.random.RandomState) -> Floats:
    side = 3**0.5 / 2
    return _edge(np.maximum(np.maximum(side * x + y / 2, -side * x + y / 2), -y) - 0.52)


def _cross(x: Floats, y: Floats, random: np.random.RandomState) -> Floats:
    thick = _uniform(random, (len(x), 1, 1), 0.24, 0.36)
    upright = np.maximum(np.abs(x) - thick, np.abs(y) - 1.0)
    return _edge(np.minimum(upright, np.maximum(np.abs(y) - thick, np.abs(x) - 1.0)))


def _star(x: Floats, y: Floats, random: np.random.RandomState) -> Floats:
    points = random.randint(5, 8, (len(x), 1, 1))
    depth = _uniform(random, (len(x), 1, 1), 0.25, 0.35)
    return _edge(np.hypot(x, y) - 0.75 - depth * np.cos(points * np.arctan2(y, x)))


def _ring(x: Floats, y: Floats, random: np.random.RandomState) -> Floats:
    return _edge(np.abs(np.hypot(x, y) - 0.75) - _uniform(random, (len(x), 1, 1), 0.14, 0.24))


def _stripes(x: Floats, y: Floats, random: np.random.RandomState) -> Floats:
    return _patch(x, y, np.sin(x * _uniform(random, (len(x), 1, 1), 6, 11)))


def _checkers(x: Floats, y: Floats, random: np.random.RandomState) -> Floats:
    pitch = _uniform(random, (len(x), 1, 1), 4.5, 7)
    return _patch(x, y, np.sin(x * pitch) * np.sin(y * pitch))


def _dots(x: Floats, y: Floats, random: np.random.RandomState) -> Floats:
    pitch = _uniform(random, (len(x), 1, 1), 5.5, 8)
    return _patch(x, y, np.cos(x * pitch) + np.cos(y * pitch) - 0.9)


def _waves(x: Floats, y: Floats, random: np.random.RandomState) -> Floats:
    pitch = _uniform(random, (len(x), 1, 1), 6, 11)
    bend = _uniform(random, (len(x), 1, 1), 1.0, 1.8)
    return _patch(x, y, np.sin(x * pitch + bend * np.sin(y * pitch * 0.6)))


_OUTLINES = (_disc, _square, _triangle, _cross, _star, _ring, _stripes, _checkers, _dots, _waves)
