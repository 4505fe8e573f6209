"""Relative paths of a specification belong to the folder it is launched from; workers and resumes run elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hpo.home import NAME
from hpo.spec.study import Spec

SQLITE = "sqlite:///"


def anchor(spec: Spec) -> Spec:
    """`spec` with every local path absolute: data, weights file, checkpoints, an SQLite ledger, files to start from."""
    model = spec.model
    if isinstance(model.pretrained, str):
        model = dataclasses.replace(model, pretrained=_absolute(model.pretrained))
    storage = spec.storage.model_copy(
        update={
            "checkpoints": _place(spec.storage.checkpoints),
            "ledger": _database(spec.storage.ledger),
        }
    )
    data = dataclasses.replace(spec.data, root=_absolute(spec.data.root))
    sources = tuple(_absolute(one) if _is_file(one) else one for one in spec.warm_start)
    return spec.model_copy(update={"data": data, "model": model, "storage": storage, "warm_start": sources})


def _is_file(source: str) -> bool:
    """Whether a source of a warm start is a file; the names of studies have no dot and no slash."""
    return Path(source).is_file() or not NAME.fullmatch(source)


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _place(place: str | None) -> str | None:
    return place if place is None or "://" in place else _absolute(place)


def _database(url: str | None) -> str | None:
    if url is None or not url.startswith(SQLITE) or ":memory:" in url:
        return url
    return SQLITE + _absolute(url[len(SQLITE) :])
