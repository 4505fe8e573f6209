"""The synthetic trainer for workers on GPUs that Ray was told of and that are not there."""

from __future__ import annotations

from tests.synthetic import train
from trainers import devices

__all__ = ["train"]

devices.device_error = lambda device: None
