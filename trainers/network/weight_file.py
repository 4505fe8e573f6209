"""Reading a file of weights as names and tensors. An error about any other file says what the file is."""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import clean_state_dict
from torch import Tensor

from trainers.api import WeightsError
from trainers.network import weight_path
from trainers.network.weight_path import AGAIN, SAVE, has_safetensors_header

_TIMM_KEYS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Keys of the tensors in checkpoints of timm's training. As in timm, the first key that exists counts."""


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors or state-dict file, by name. Its content decides, not its name.

    Pickled code is never run.

    Raises:
        WeightsError: the file is of another kind, is damaged, or contains values that are not finite.
    """
    start = weight_path.beginning(path)
    state = _safetensors(path) if _is_safetensors(path, start) else _tensors(path, _unpickled(path))
    state.pop("n_averaged", None)  # the counter of torch's AveragedModel
    for name, value in state.items():
        _refuse_unusual(path, name, value)
        # Checked as float32, the type of the model: larger values become infinite there.
        if not torch.isfinite(value.float()).all():
            raise WeightsError(
                f"{path}: the tensor {name} has values that are NaN or infinite; the training that wrote the file "
                "had diverged; name an earlier checkpoint of it"
            )
    return state


def _refuse_unusual(path: Path, name: str, value: Tensor) -> None:
    ways = {
        "quantized": value.is_quantized,
        "sparse": value.layout != torch.strided,
        "without values, on the meta device": value.is_meta,
        "of complex numbers": value.is_complex(),
    }
    if found := [way for way, is_so in ways.items() if is_so]:
        raise WeightsError(
            f"{path}: the tensor {name} is {found[0]}; store the weights as dense tensors of floating-point numbers"
        )


def _is_safetensors(path: Path, start: bytes) -> bool:
    """Whether the content is safetensors. The name counts only if the file is neither a zip archive nor a pickle."""
    return has_safetensors_header(start) or (path.suffix == ".safetensors" and not start.startswith((b"PK", b"\x80")))


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path} is neither an intact safetensors file nor a state dict; it is truncated or damaged; "
            f"{AGAIN} ({error})"
        ) from error


def _unpickled(path: Path) -> Any:
    try:
        # Checkpoints of timm's training contain their command line, which is plain data.
        # With a path torch looks at the name, with an open file at the content.
        with torch.serialization.safe_globals([argparse.Namespace]), path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if match := re.search(r"GLOBAL (\S+)", str(error)):
            raise WeightsError(
                f"{path} is neither an intact safetensors file nor a state dict of plain tensors: it holds "
                f"the Python object {match[1]}, and building objects from a file can run any code, so it is not "
                f"opened; {SAVE}"
            ) from error
        raise WeightsError(_unreadable(path)) from error
    except Exception as error:
        # Damaged bytes make torch raise many types of exceptions.
        if "TorchScript" in str(error):
            raise WeightsError(f"{path} is a TorchScript program, not a state dict; {SAVE}") from error
        raise WeightsError(_unreadable(path)) from error


def _unreadable(path: Path) -> str:
    return (
        f"{path} is neither an intact safetensors file nor an intact state dict of PyTorch; it may be truncated; "
        f"{AGAIN}"
    )


def _tensors(path: Path, content: Any) -> dict[str, Tensor]:
    """The tensors of a pickled object, by name."""
    if isinstance(content, Mapping):
        content = next((content[key] for key in _TIMM_KEYS if content.get(key) is not None), content)
    if not isinstance(content, Mapping):
        what = type(content).__name__
        raise WeightsError(f"{path} holds a value of type {what}, not tensors by their names; {SAVE}")
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor) and isinstance(name, str)}
    wrappers = [str(key) for key, value in content.items() if _holds_tensors(value)]
    if wrappers:
        raise WeightsError(
            f"{path} has the tensors under {' and '.join(map(repr, wrappers))}, one level too deep; store that part "
            f"alone: torch.save(torch.load(PATH)[{wrappers[0]!r}], NEW_PATH)"
        )
    if not tensors:
        raise WeightsError(f"{path} holds no tensors by their names; {SAVE}")
    return dict(clean_state_dict(tensors))


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(part, Tensor) for part in value.values())
