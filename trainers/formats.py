"""A trained model in the formats hf, ONNX and pt2. A file is written only if it computes the same as the model.

A *model folder* contains `model.safetensors` and `config.json`, as `trainers.retrain` writes them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainers.api import TrainerError

Format = Literal["hf", "onnx", "pt2"]
WEIGHTS, CONFIG = "model.safetensors", "config.json"
TOLERANCE = 1e-3
"""Largest allowed difference of a logit, divided by the largest logit. Rounding in another order stays below it."""
EXAMPLES = 4


class FormatError(TrainerError):
    """The folder contains no model, a package is missing, or the written file computes something else."""


@dataclass(frozen=True)
class Parity:
    """Comparison of the written file with the model, on the same random images."""

    path: Path
    """The written file, or the written folder for `hf`."""
    images: int
    """Number of images compared."""
    difference: float
    """Largest absolute difference of a logit."""
    relative: float
    """`difference` divided by the largest absolute logit."""
    same_class: int
    """Number of images that both assign to the same class."""


def convert(folder: Path, output: Path, form: Format) -> Parity:
    """Convert the model of a folder and write it to the folder `output`, with `config.json` (size, mean, std, classes).

    `hf` writes `model.safetensors`. Load it with `timm.create_model("local-dir:OUTPUT", pretrained=True)`, or upload
    both files to a Hugging Face repository and load them with `hf-hub:`. `onnx` writes `model.onnx`. `pt2` writes
    `model.pt2` for `torch.export.load`. The last two map normalised float32 images (N, 3, H, W), with any N, to logits.

    Raises:
        FormatError: the folder contains no model, a package is missing, or the file computes something else. Nothing
            is written then.
    """
    net, settings = load(folder)
    images = _images(settings)
    with torch.inference_mode():
        expected = net(images)
    name = {"hf": WEIGHTS, "onnx": "model.onnx", "pt2": "model.pt2"}[form]
    write: Callable[[Path], Any] = {
        "hf": lambda path: shutil.copyfile(folder / WEIGHTS, path),
        "onnx": lambda path: _write_onnx(net, images, path),
        "pt2": lambda path: _write_pt2(net, images, path),
    }[form]
    read = {"hf": _run_hf, "onnx": _run_onnx, "pt2": _run_pt2}[form]
    output.mkdir(parents=True, exist_ok=True)
    # Files are written and checked in a temporary folder, so that only checked files arrive in `output`.
    with tempfile.TemporaryDirectory(prefix=".export-", dir=output) as scratch:
        write(Path(scratch) / name)
        shutil.copyfile(folder / CONFIG, Path(scratch) / CONFIG)
        parity = _compare(output if form == "hf" else output / name, expected, read(Path(scratch) / name, images))
        for file in (name, CONFIG):
            os.replace(Path(scratch) / file, output / file)
    return parity


def load(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Return the model of a folder in evaluation mode on the CPU, and the content of its `config.json`.

    Raises:
        FormatError: a file is missing, or the files do not belong together.
    """
    for name in (WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise FormatError(
                f"{folder} contains no trained model: {name} is missing; `hpo retrain` writes such a folder"
            )
    try:
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        net = timm.create_model(f"local-dir:{folder.absolute()}", pretrained=True)
    except (ValueError, KeyError, RuntimeError, OSError) as error:
        raise FormatError(f"the model in {folder} cannot be loaded: {error}") from error
    return net.eval(), settings


@dataclass(frozen=True)
class Example:
    """A model and its logits for a few images, as NumPy arrays."""

    net: nn.Module
    settings: dict[str, Any]
    """The content of `config.json`."""
    images: NDArray[np.float32]
    """(N, 3, H, W), normalised."""
    logits: NDArray[np.float32]
    """(N, classes)."""


def example(folder: Path, count: int) -> Example:
    """Return the model of a folder and its logits for `count` random images.

    The images are always the same. Their values are rounded to eighths, which keeps them short as text.

    Raises:
        FormatError: the folder contains no model.
    """
    net, settings = load(folder)
    images = (_images(settings)[:count] * 8).round() / 8
    with torch.inference_mode():
        return Example(net, settings, images.numpy(), net(images).numpy())


def agree(expected: NDArray[np.float32], actual: NDArray[np.float32]) -> bool:
    """Return whether two arrays of logits (N, classes) differ by at most the tolerance for rounding."""
    return bool(np.abs(expected - actual).max() <= TOLERANCE * np.abs(expected).max())


def _images(settings: dict[str, Any]) -> Tensor:
    """Random images (N, 3, H, W) with mean 0 and deviation 1, always the same."""
    size = settings["pretrained_cfg"]["input_size"]
    return torch.randn(EXAMPLES, *size, generator=torch.Generator().manual_seed(0))


def _compare(path: Path, expected: Tensor, actual: Tensor) -> Parity:
    difference = (expected - actual).abs().max().item()
    parity = Parity(
        path=path,
        images=len(expected),
        difference=difference,
        relative=difference / expected.abs().max().clamp(min=1e-12).item(),
        same_class=int((expected.argmax(1) == actual.argmax(1)).sum().item()),
    )
    if not parity.relative <= TOLERANCE:  # NaN fails too
        raise FormatError(
            f"{path.name} does not compute the same as the model: logits differ by {parity.difference:.2g}, "
            f"{parity.relative:.2g} of the largest logit (allowed: {TOLERANCE:g}); the file was not written"
        )
    return parity


def _run_hf(path: Path, images: Tensor) -> Tensor:
    net, _ = load(path.parent)
    with torch.inference_mode():
        logits: Tensor = net(images)
    return logits


# ------------------------------------------------------------------------------------------------- pt2


def _free_batch() -> tuple[dict[int, Any]]:
    """The dynamic shapes of an export: only the number of images may change."""
    return ({0: torch.export.Dim("batch")},)


def _write_pt2(net: nn.Module, images: Tensor, path: Path) -> None:
    with torch.no_grad():
        torch.export.save(torch.export.export(net, (images,), dynamic_shapes=_free_batch()), path)


def _run_pt2(path: Path, images: Tensor) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = torch.export.load(path).module()(images)
    return logits


# ------------------------------------------------------------------------------------------------ onnx


def _write_onnx(net: nn.Module, images: Tensor, path: Path) -> None:
    missing = [
        package for package in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(package) is None
    ]
    if missing:
        raise FormatError(f"the format onnx needs {', '.join(missing)}: pip install 'hpo-efficientnetv2[onnx]'")
    program = torch.onnx.export(
        net,
        (images,),
        dynamo=True,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=_free_batch(),
        verbose=False,
    )
    assert program is not None  # without a file name the exporter returns the program
    program.save(path, external_data=False)


def _run_onnx(path: Path, images: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    return torch.from_numpy(logits)
