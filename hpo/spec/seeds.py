"""Which trials run unpruned, so that the pruning can be judged by them."""

from __future__ import annotations

import hashlib
import math


def is_control(study_seed: int, trial: int, share: float) -> bool:
    """Whether a trial is a control: a function of (study seed, trial number) alone.

    Every stretch of trials has its share of them, as evenly as whole trials allow; the seed says where they fall.
    """
    digest = hashlib.sha256(f"{study_seed}/controls".encode()).digest()
    offset = int.from_bytes(digest[:6], "big") / 2**48
    return math.floor((trial + 1) * share + offset) > math.floor(trial * share + offset)


def derive_seed(study_seed: int, what: int | str) -> int:
    """A trial's seed: a function of (study seed, trial number) alone, 63 bits; or that of something else named."""
    digest = hashlib.sha256(f"{study_seed}/{what}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
