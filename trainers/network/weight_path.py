"""The file that `model.pretrained` names, alone or in a folder, and what it is if it is no file of weights.

Needs no torch.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
from pathlib import Path

from trainers.api import WeightsError

SAVE = "save the state dict alone, by torch.save(model.state_dict(), PATH) or as safetensors"
AGAIN = "copy or download it again"
_ENDINGS = (".safetensors", ".pth", ".pt", ".bin")
_SNIFFED = 512
"""Bytes at the beginning of a file that tell its kind."""
_LARGEST_HEADER = 100_000_000
"""Bytes. safetensors refuses a longer header."""
_CONVERT = "convert it to safetensors first"
_UNPACK = "unpack it and name the file inside"
_JOIN = "load all of its files, and save their tensors as one safetensors file"
_FOREIGN = (
    (rb"\x89HDF\r\n", "an HDF5 file, as Keras writes it", _CONVERT),
    (rb"\x93NUMPY", "a NumPy array", _CONVERT),
    (rb"GGUF", "a GGUF file", _CONVERT),
    (rb"\x08[\x01-\x1f][\x12\x3a]", "an ONNX model", _CONVERT),
    (rb"\x1f\x8b", "a gzip archive", _UNPACK),
    (rb"\xfd7zXZ", "an xz archive", _UNPACK),
    (rb"BZh", "a bzip2 archive", _UNPACK),
    (rb"7z\xbc\xaf", "a 7z archive", _UNPACK),
    (rb"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK),
    (rb"[\s\S]{257}ustar", "a tar archive", _UNPACK),
)
"""How other kinds of files begin, the name of the kind, and the remedy."""
_PICKLE = b"\x80"
_OF_TORCH = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""The number near the beginning of pickles that torch.save wrote."""


def existing(text: str, model: str) -> Path:
    """Return the absolute path of the file that the setting `model.pretrained` names; `~` is expanded.

    A folder has one file per model. That of `model`, timm's name, is `in_folder`.

    Raises:
        WeightsError: it is no regular file of this machine, or a folder without a file for the model. The text says
            what it is instead, and the remedy.
    """
    path = in_folder(text, model) or _path(text)
    if problem := _problem(text, path, model):
        raise WeightsError(f"model.pretrained: {problem}")
    return path


def in_folder(text: str, model: str) -> Path | None:
    """Return the file of a model in a folder; None if `text` names no folder, or one without such a file.

    The file is `NAME.safetensors`, `.pth`, `.pt` or `.bin`, where NAME is timm's name with or without the tag.
    """
    if not is_folder(text):
        return None
    names = dict.fromkeys((model, model.partition(".")[0]))
    places = (_path(text) / f"{name}{ending}" for name in names for ending in _ENDINGS)
    return next((place for place in places if place.exists() or place.is_symlink()), None)


def is_folder(text: str) -> bool:
    """Return whether the setting names a folder of this machine."""
    try:
        return _path(text).is_dir()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _path(text: str) -> Path:
    return Path(os.path.expanduser(text)).absolute()


def _problem(text: str, path: Path, model: str) -> str | None:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if "://" in text:
            return f"{text} is an address, not a file; download the file, and give its path"
        if path.is_symlink():
            return f"{path} is a link to {os.readlink(path)}, which does not exist; give a file, true or false"
        return f"there is no file {path}; give a file, true or false"
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        return f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"
    if stat.S_ISDIR(mode):
        return (
            f"{path} is a folder; give the file of weights in it, or, for a study of several models, name the file of "
            f"each model after it: there is no {model}.safetensors or {model}.pth"
        )
    if not stat.S_ISREG(mode):
        return f"{path} is a pipe, a socket or a device; copy the weights to a file"
    return None


def beginning(path: Path) -> bytes:
    """Return the first 512 bytes of the file.

    Raises:
        WeightsError: they cannot be read, or belong to a file of another kind. The text says which, and the remedy.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_SNIFFED)
        kind = _other_kind(path, start)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    if kind:
        raise WeightsError(f"{path} {kind}")
    return start


def has_safetensors_header(start: bytes) -> bool:
    """Return whether a file that begins with `start` has the length and the first letter of a safetensors header."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= _LARGEST_HEADER


def _other_kind(path: Path, start: bytes) -> str | None:
    """What the file is, and the remedy; None if it may be weights."""
    if part := re.search(r"-(\d{5})-of-(?!00001)(\d{5})\.", path.name):
        return f"is part {int(part[1])} of {int(part[2])} of the weights; {_JOIN}"
    if has_safetensors_header(start):  # whose length may look like the beginning of another kind
        return None
    if not start:
        return f"is empty; {AGAIN}"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights; fetch them by `git lfs pull`"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return (
            "is an HTML or XML page, not the weights; download the file itself "
            "(on Hugging Face: the address with /resolve/ in place of /blob/)"
        )
    for magic, kind, remedy in _FOREIGN:
        if re.match(magic, start):
            return f"is {kind}, not weights of PyTorch; {remedy}"
    if b'"weight_map"' in start or path.name.endswith(".index.json"):
        return f"is the index of weights in several files; {_JOIN}"
    if len(start) >= 8 and (words := _text(start)) is not None:
        return f"is a text that begins with {words!r}, neither an intact safetensors file nor a state dict; {AGAIN}"
    if start.startswith(_PICKLE) and len(start) == _SNIFFED and _OF_TORCH not in start:
        return f"is a pickle that torch.save did not write, and opening it can run any code; {SAVE}"
    return _archive(path) if start.startswith(b"PK") else None


def _text(start: bytes) -> str | None:
    """The first words of a text; None for binary content."""
    if re.search(rb"[\x00-\x08\x0e-\x1f\x7f-\xff]", start):
        return None
    return start[:40].decode().strip().partition("\n")[0]


def _archive(path: Path) -> str | None:
    """What an intact zip archive is that torch.save did not write."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return None
    if any(name.endswith("/data.pkl") for name in names) and not any("archive_format" in name for name in names):
        return None
    if any(name.endswith("/archive_format") for name in names):
        return f"is a program of torch.export, not a state dict; {SAVE}"
    return f"is a zip archive of {names[0] if names else 'nothing'}, not weights of PyTorch; {_UNPACK}"
