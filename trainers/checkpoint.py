"""Checkpoints of one trial in a folder or under any fsspec URI: complete and intact, or as if not there.

Per epoch three files: `N.safetensors` (tensors), `N.pt` (the rest, readable with `weights_only=True`) and
`N.json`, the manifest with both SHA-256s, which is written last and makes the checkpoint exist. Locally each
is written to a temporary name, fsynced and renamed. Nothing read is ever executed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from trainers.files import replace_atomically

if TYPE_CHECKING:
    import torch

KEPT = 2
"""Checkpoints kept: the newest, and the one before in case the newest is damaged later."""
_FORMAT = 1
_MANIFEST = re.compile(r"(\d{6})\.json")


class CheckpointWarning(UserWarning):
    """A checkpoint is damaged and skipped."""


class DirectoryStore:
    """A `trainers.api.CheckpointStore` over a local folder or an fsspec URI (`s3://bucket/path`, ...).

    One trial, one writer. Only `save` and `load` import torch.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._files, self._root = url_to_fs(os.path.expanduser(url) if "://" not in url else url)

    def save(self, epoch: int, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> str:
        """Store a checkpoint and drop all older ones but the last; returns the manifest's SHA-256.

        Raises:
            OSError: the disk is full or the store out of reach; older checkpoints are as they were.
        """
        import torch
        from safetensors.torch import save as serialise

        with io.BytesIO() as buffer:
            torch.save(dict(state), buffer)
            contents = {
                f"{epoch:06}.pt": buffer.getvalue(),
                f"{epoch:06}.safetensors": serialise({name: t.contiguous() for name, t in tensors.items()}),
            }
        self._files.makedirs(self._root, exist_ok=True)
        hashes = {}
        for name, content in contents.items():
            self._write(name, content)
            hashes[name] = hashlib.sha256(content).hexdigest()
        manifest = json.dumps({"format": _FORMAT, "epoch": epoch, "sha256": hashes}, sort_keys=True).encode()
        self._write(f"{epoch:06}.json", manifest)
        self._remove_but(self.epochs()[-KEPT:])
        return hashlib.sha256(manifest).hexdigest()

    def load(self) -> tuple[int, dict[str, torch.Tensor], dict[str, Any]] | None:
        """The newest intact checkpoint as (epoch, tensors on the CPU, state), or None.

        Damaged ones are skipped with a warning. `state["checkpoint"]` is the SHA-256 that `save` returned.
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

    def latest(self) -> tuple[int, str] | None:
        """Epoch and SHA-256 of the newest checkpoint, unverified; needs no torch."""
        epochs = self.epochs()
        if not epochs:
            return None
        return epochs[-1], hashlib.sha256(self._read(f"{epochs[-1]:06}.json")).hexdigest()

    def epochs(self) -> list[int]:
        """Epochs with a checkpoint, ascending; damaged ones included."""
        found = (_MANIFEST.fullmatch(name) for name in self._sizes())
        return sorted(int(match[1]) for match in found if match)

    def drop(self, *, keep_last: bool) -> None:
        """Remove all checkpoints, or all but the newest; leftovers of interrupted writes always."""
        self._remove_but(self.epochs()[-1:] if keep_last else [])

    def disk_usage(self) -> int:
        """Bytes stored, leftovers included."""
        return sum(self._sizes().values())

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
            raise _Damaged(f"its state is a {type(state).__name__}")
        return epoch, tensors, {**state, "checkpoint": hashlib.sha256(manifest).hexdigest()}

    def _verified(self, epoch: int, manifest: bytes) -> dict[str, bytes]:
        try:
            described = json.loads(manifest)
            hashes = {name: described["sha256"][name] for name in (f"{epoch:06}.safetensors", f"{epoch:06}.pt")}
            known = (described["format"], described["epoch"]) == (_FORMAT, epoch)
        except (ValueError, KeyError, TypeError) as error:
            raise _Damaged(f"its manifest is not readable ({error})") from error
        if not known:
            raise _Damaged("its manifest is of another format or epoch")
        contents = {}
        for name, expected in hashes.items():
            contents[name] = self._read(name)
            if hashlib.sha256(contents[name]).hexdigest() != expected:
                raise _Damaged(f"the SHA-256 of {name} is not the manifest's")
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
            # Object stores show an object when it is whole; elsewhere the manifest's hashes tell.
            self._files.pipe_file(f"{self._root}/{name}", content)

    def _remove_but(self, kept: list[int]) -> None:
        names = self._sizes()
        # Manifests first: a checkpoint without one does not exist, so none is ever half removed.
        for name in sorted(names, key=lambda name: not name.endswith(".json")):
            if not any(name.startswith(f"{epoch:06}.") for epoch in kept):
                self._files.rm_file(f"{self._root}/{name}")

    def _sizes(self) -> dict[str, int]:
        """File names and bytes; empty when the folder is not there."""
        self._files.invalidate_cache()
        try:
            listed = self._files.ls(self._root, detail=True)
        except FileNotFoundError:
            return {}
        return {entry["name"].rpartition("/")[2]: entry["size"] for entry in listed if entry["type"] == "file"}


class _Damaged(Exception):
    """Says what is wrong with one checkpoint; never leaves this module."""
