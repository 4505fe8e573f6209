"""What can be known about models and devices before training: timm's model names, the machine's GPUs.

timm and torch take seconds to import, so the names are kept in a small file per timm version.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib.metadata
import json
import os
import tempfile
from pathlib import Path


def known_model(name: str) -> bool:
    """Whether `timm.create_model` knows `name`, with or without a pretrained tag."""
    return name in _model_names()


def close_models(name: str) -> list[str]:
    """Up to three known names near `name`, nearest first; tags count only where `name` has one."""
    names = [known for known in _model_names() if ("." in known) == ("." in name)]
    return difflib.get_close_matches(name[:100], names, n=3, cutoff=0.6)


def gpu_count() -> int:
    """CUDA devices that torch can use on this machine; imports torch."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


@functools.lru_cache(maxsize=1)
def _model_names() -> frozenset[str]:
    path = _cache_file()
    # The cache only saves time: whatever is wrong with it, timm itself is asked.
    with contextlib.suppress(OSError, ValueError):
        names = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            return frozenset(names)
    names = _ask_timm()
    with contextlib.suppress(OSError):
        _write(path, json.dumps(sorted(names)))
    return names


def _ask_timm() -> frozenset[str]:
    import timm

    return frozenset(timm.list_models()) | frozenset(timm.list_models(pretrained=True))


def _cache_file() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    version = importlib.metadata.version("timm")
    return Path(folder).expanduser() / "hpo-efficientnetv2" / f"timm-{version}-models.json"


def _write(path: Path, text: str) -> None:
    """All or nothing, so that two commands started together cannot leave half a list."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with open(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.replace(temporary, path)
