"""Random streams that depend on nothing but the trial's seed, what they are for and the epoch."""

from __future__ import annotations

import hashlib


def derive(seed: int, *purpose: str | int) -> int:
    """A seed below 2^63 for one purpose of a trial, e.g. `derive(seed, "order", epoch)`.

    Streams of different purposes or epochs are independent, so an epoch can be repeated after a resume
    without the epochs before it, and drawing more numbers for one purpose never moves another.
    """
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
