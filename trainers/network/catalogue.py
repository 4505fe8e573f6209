"""The names of timm's models, without importing timm.

timm takes seconds to import, so the names are cached in a small file per timm version.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib.metadata
import json
import os
from pathlib import Path

from trainers.files import replace_atomically
from trainers.network import weight_path


def known_model(name: str) -> bool:
    """Return whether timm has a model of this name, with or without a pretrained tag."""
    return name in _model_names()


def close_models(name: str) -> list[str]:
    """Return up to three names that are similar to `name`, the most similar first.

    Names with a pretrained tag are compared only if `name` has a tag.
    """
    names = [candidate for candidate in _model_names() if ("." in candidate) == ("." in name)]
    return difflib.get_close_matches(name[:100], names, n=3, cutoff=0.6)


def unknown(name: str) -> str:
    """Return the error text for a name that timm does not know, with similar names."""
    close = close_models(name)
    return f"timm has no model {name!r}" + (f"; did you mean {' or '.join(close)}?" if close else "")


def padding_warning(name: str, source: str) -> str | None:
    """Return a warning if the weights file `source` could also belong to another model than `name`, or None.

    The `tf_` models pad images as TensorFlow does. The model of the same name without `tf_` has the same tensors.
    A folder's files are named after their models, so nothing is in doubt there.
    """
    if weight_path.is_folder(source):
        return None
    architecture = name.partition(".")[0]
    twin = architecture.removeprefix("tf_") if architecture.startswith("tf_") else f"tf_{architecture}"
    if not known_model(twin):
        return None
    return (
        f"model.pretrained: weights of {twin} also fit {architecture}, by name and shape, but the two models pad "
        f"images differently, and a model with the other's weights starts worse; if {source} belongs to {twin}, set "
        f"model.name={twin}"
    )


@functools.lru_cache(maxsize=1)
def _model_names() -> frozenset[str]:
    path = _cache_file()
    # The cache only saves time. If it is missing or damaged, timm itself gives the names.
    with contextlib.suppress(OSError, ValueError):
        names = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            return frozenset(names)
    names = _ask_timm()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_atomically(path, lambda temporary: temporary.write_text(json.dumps(sorted(names)), encoding="utf-8"))
    return names


def _ask_timm() -> frozenset[str]:
    import timm

    return frozenset(timm.list_models()) | frozenset(timm.list_models(pretrained=True))


def _cache_file() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    version = importlib.metadata.version("timm")
    return Path(os.path.expanduser(folder)) / "hpo-efficientnetv2" / f"timm-{version}-models.json"
