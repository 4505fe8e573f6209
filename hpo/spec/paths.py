"""Absolute paths for a specification: workers and resumes run in other folders than the one it was started from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from hpo.errors import UsageError
from hpo.home import NAME, expanded
from hpo.spec.study import Spec
from hpo.sqlite_urls import sqlite_file


def with_absolute_paths(spec: Spec, home: Path | None = None) -> Spec:
    """`spec` with every local path absolute: data, weights, checkpoints, an SQLite ledger, files of the warm start.

    Args:
        home: the home folder. Checkpoints in it become relative to it, so that they are found after it was moved.

    Raises:
        UsageError: a path begins with `~NAME`, and no such user has a home folder.
    """
    model = spec.model
    if isinstance(model.pretrained, str):
        model = dataclasses.replace(model, pretrained=_absolute("model.pretrained", model.pretrained))
    storage = spec.storage.model_copy(
        update={
            "checkpoints": _folder(spec.storage.checkpoints, home),
            "ledger": _database(spec.storage.ledger),
        }
    )
    data = dataclasses.replace(spec.data, root=_absolute("data.root", spec.data.root))
    sources = tuple(_absolute("warm_start", source) if names_a_file(source) else source for source in spec.warm_start)
    return spec.model_copy(update={"data": data, "model": model, "storage": storage, "warm_start": sources})


def names_a_file(source: str) -> bool:
    """Whether a source of a warm start is a file. Names of studies have no dot and no slash."""
    return Path(source).is_file() or not NAME.fullmatch(source)


def _absolute(setting: str, path: str) -> str:
    try:
        return str(expanded(path).absolute())
    except OSError as error:
        raise UsageError(f"{setting}: {path} cannot be used: {error.strerror}; give another path") from error


def _folder(place: str | None, home: Path | None) -> str | None:
    if place is None or "://" in place:
        return place
    folder = Path(_absolute("storage.checkpoints", place))
    if home is not None and folder.resolve().is_relative_to(home):
        return str(folder.resolve().relative_to(home))
    return str(folder)


def _database(url: str | None) -> str | None:
    from sqlalchemy.engine import make_url

    file = None if url is None else sqlite_file(url)
    if url is None or file is None or file.is_absolute():
        return url  # as it was written: a stored URL stays equal to itself
    return make_url(url).set(database=_absolute("storage.ledger", str(file))).render_as_string(hide_password=False)
