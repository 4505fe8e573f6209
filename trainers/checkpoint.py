"""Checkpoints of one trial in a folder or under any fsspec URI. An incomplete or damaged checkpoint does not count.

A checkpoint has three files: `N.safetensors` (tensors), `N.pt` (other state, loaded with `weights_only=True`) and
`N.json`, the manifest with the SHA-256 of both. The manifest is written last; without it the checkpoint does not exist.
Local files are written under a temporary name, synced to the disk and renamed. Loading never executes code.
"""

from __future__ import annotations

import glob
import hashlib
import io
import json
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from trainers.api import Notice
from trainers.files import replace_atomically

if TYPE_CHECKING:
    import torch

KEPT = 2
"""Checkpoints that stay: the newest and the one before, in case the newest is damaged later."""
_FORMAT = 1
_MANIFEST = re.compile(r"(\d{6})\.json")


class CheckpointWarning(Notice):
    """A checkpoint is damaged and was skipped."""


def apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors as safetensors takes them: contiguous, each with memory of its own.

    Tied weights (CoaT's, for example) are copied for every name that they have.
    """
    taken: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        own = tensor.contiguous()
        memory = own.untyped_storage().data_ptr()
        result[name] = own.clone() if memory in taken else own
        taken.add(memory)
    return result


class DirectoryStore:
    """A `trainers.api.CheckpointStore` in a local folder or under an fsspec URI (`s3://bucket/path`, ...).

    Each trial has its own folder and one writer. Only `save` and `load` import torch.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._files, self._root = _place(url)

    def save(self, epoch: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> str:
        """Store the checkpoint of `epoch` and remove all older ones except the last; return the manifest's SHA-256.

        Raises:
            OSError: the disk is full or the store cannot be reached. Older checkpoints are then unchanged.
        """
        import torch
        from safetensors.torch import save as serialise

        # First: a checkpoint that is written while those of its trial are dropped finds no folder, and leaves nothing.
        self._files.makedirs(self._root, exist_ok=True)
        with io.BytesIO() as buffer:
            torch.save(dict(state), buffer)
            contents = {
                f"{epoch:06}.pt": buffer.getvalue(),
                f"{epoch:06}.safetensors": serialise(apart(tensors)),
            }
        hashes = {}
        for name, content in contents.items():
            self._write(name, content)
            hashes[name] = hashlib.sha256(content).hexdigest()
        manifest = json.dumps({"format": _FORMAT, "epoch": epoch, "sha256": hashes}, sort_keys=True).encode()
        self._write(f"{epoch:06}.json", manifest)
        self._remove_but_newest()
        return hashlib.sha256(manifest).hexdigest()

    def load(self) -> tuple[int, dict[str, torch.Tensor], dict[str, Any]] | None:
        """Return the newest intact checkpoint as (epoch, tensors on the CPU, state), or None if there is none.

        Damaged checkpoints are skipped with a `CheckpointWarning`. `state["checkpoint"]` is the SHA-256 that `save`
        returned.
        """
        for epoch in reversed(self.epochs()):
            try:
                return self._load(epoch)
            except _Damaged as problem:
                warnings.warn(
                    f"checkpoint of epoch {epoch} in {self.url} is damaged and skipped: {problem}",
                    CheckpointWarning,
                    stacklevel=2,
                )
        return None

    def epochs(self) -> list[int]:
        """Return the epochs that have a checkpoint, damaged ones included, in ascending order."""
        return _epochs(self._names())

    def drop(self, *, keep_last: bool) -> None:
        """Remove all checkpoints, or all except the newest, and in both cases the leftovers of interrupted writes.

        One listing and one removal. Call it only when the trial has ended: the removal has no order.
        """
        names = self._names()
        self._remove(removable(names, keep_last=keep_last))
        if not keep_last and names and isinstance(self._files, LocalFileSystem):
            with suppress(OSError):  # a trainer of one's own may have more in it
                self._files.rmdir(self._root)

    def _load(self, epoch: int) -> tuple[int, dict[str, torch.Tensor], dict[str, Any]]:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load as deserialise

        manifest = self._read(f"{epoch:06}.json")
        contents = self._verified(epoch, manifest)
        try:
            tensors = deserialise(contents[f"{epoch:06}.safetensors"])
            with io.BytesIO(contents[f"{epoch:06}.pt"]) as buffer:
                state = torch.load(buffer, map_location="cpu", weights_only=True)
        except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
            raise _Damaged(str(error).partition("\n")[0]) from error
        if not isinstance(state, dict):
            raise _Damaged(f"its state is a {type(state).__name__}, not a dict")
        return epoch, tensors, {**state, "checkpoint": hashlib.sha256(manifest).hexdigest()}

    def _verified(self, epoch: int, manifest: bytes) -> dict[str, bytes]:
        try:
            described = json.loads(manifest)
            hashes = {name: described["sha256"][name] for name in (f"{epoch:06}.safetensors", f"{epoch:06}.pt")}
            matches = (described["format"], described["epoch"]) == (_FORMAT, epoch)
        except (ValueError, KeyError, TypeError) as error:
            raise _Damaged(f"its manifest cannot be read ({error})") from error
        if not matches:
            raise _Damaged("its manifest belongs to another format or epoch")
        contents = {}
        for name, expected in hashes.items():
            contents[name] = self._read(name)
            if hashlib.sha256(contents[name]).hexdigest() != expected:
                raise _Damaged(f"the SHA-256 of {name} differs from the one in the manifest")
        return contents

    def _read(self, name: str) -> bytes:
        try:
            content: bytes = self._files.cat_file(f"{self._root}/{name}")
        except FileNotFoundError as error:
            raise _Damaged(f"{name} is missing") from error
        return content

    def _write(self, name: str, content: bytes) -> None:
        if isinstance(self._files, LocalFileSystem):
            replace_atomically(Path(self._root) / name, lambda temporary: temporary.write_bytes(content))
        else:
            # An object store shows only complete objects. On other file systems the hashes reveal a partial file.
            self._files.pipe_file(f"{self._root}/{name}", content)

    def _remove_but_newest(self) -> None:
        # Manifests first: a checkpoint without a manifest does not exist, so none is ever half removed.
        names = self._names()
        outdated = _outdated(names, _epochs(names)[-KEPT:])
        self._remove([name for name in outdated if name.endswith(".json")])
        self._remove([name for name in outdated if not name.endswith(".json")])

    def _remove(self, names: list[str]) -> None:
        """One request to an object store, however many files there are."""
        paths = [f"{self._root}/{name}" for name in names]
        if any(glob.escape(path) != path for path in paths):
            for path in paths:  # `rm` would take a path with `*` or `[` for a pattern, and remove what it matches
                self._files.rm_file(path)
        elif paths:
            self._files.rm(paths)

    def _names(self) -> list[str]:
        """The names of all files; empty if the folder does not exist."""
        self._files.invalidate_cache()
        try:
            entries = self._files.ls(self._root, detail=True)
        except FileNotFoundError:
            return []
        return [entry["name"].rpartition("/")[2] for entry in entries if entry["type"] == "file"]


def _place(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a folder or URI, and the path in it. fsspec would read `::` in a local path as two URIs."""
    if "://" in url:
        files, root = url_to_fs(url)
        return files, str(root)
    return LocalFileSystem(), os.path.abspath(os.path.expanduser(url))


def _epochs(names: list[str]) -> list[int]:
    matches = (_MANIFEST.fullmatch(name) for name in names)
    return sorted(int(match[1]) for match in matches if match)


def _outdated(names: list[str], kept: list[int]) -> list[str]:
    return [name for name in names if not any(name.startswith(f"{epoch:06}.") for epoch in kept)]


def stored_files(url: str) -> dict[str, list[str]]:
    """Return the names of the files in each trial's folder below `url`, by the folder's name. One listing."""
    files, root = _place(url)
    files.invalidate_cache()
    names: dict[str, list[str]] = {}
    for path in files.find(root):
        parts = path.removeprefix(root).strip("/").split("/")
        if len(parts) == 2:
            names.setdefault(parts[0], []).append(parts[1])
    return names


def removable(names: list[str], *, keep_last: bool) -> list[str]:
    """Return the names that `DirectoryStore.drop` removes from the folder of an ended trial that has these."""
    return _outdated(names, _epochs(names)[-1:] if keep_last else [])


class _Damaged(Exception):
    """What is wrong with a checkpoint. It never leaves this module."""
