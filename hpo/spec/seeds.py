"""What depends only on the study's seed and a trial's number: the seeds, and which trials are controls."""

from __future__ import annotations

import hashlib
import math


def derive_seed(study_seed: int, purpose: int | str) -> int:
    """The seed of a trial, by its number, or of another named purpose. 63 bits."""
    digest = hashlib.sha256(f"{study_seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def is_control(study_seed: int, trial: int, share: float) -> bool:
    """Whether a trial is a control: ASHA never stops it, so that the pruning can be judged by it.

    `share` (0 to 1) of the trials are controls, spread as evenly as whole trials allow. The seed shifts the pattern.
    """
    digest = hashlib.sha256(f"{study_seed}/controls".encode()).digest()
    offset = int.from_bytes(digest[:6], "big") / 2**48
    return math.floor((trial + 1) * share + offset) > math.floor(trial * share + offset)
