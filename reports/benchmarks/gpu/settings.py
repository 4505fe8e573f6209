"""What every section of the command is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Send: TypeAlias = Callable[[str, Mapping[str, Any]], None]
"""`send(key, result)`: keep a result, which JSON can express. A later one of the same key takes its place."""
MODEL = {False: "tf_efficientnetv2_b0", True: "test_efficientnet"}
"""The model of the sections that train one model only; by `Settings.tiny`."""


@dataclass(frozen=True)
class Settings:
    """The device and the size of the measurements."""

    device: str
    """`cpu`, `cuda` or `cuda:N`."""
    tiny: bool
    """Models and data so small that the whole command runs in a minute or two on a CPU. Its figures mean nothing."""
    root: str | None
    """Folder of the CIFAR files; None: there are none."""
    scratch: str
    """Folder for decoded images, checkpoints and the like, shared by all sections."""
    cores: int
    """Processor cores that the command may use."""

    @property
    def cuda(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.startswith("cuda")
