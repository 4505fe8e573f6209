"""Initial weights: from timm's hub, its local cache or a file, with errors in plain words."""

from __future__ import annotations

import os
import pickle
import socket
import urllib.request
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import Tensor, nn

from trainers.api import ModelConfig, WeightsError
from trainers.network import catalogue

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def check(config: ModelConfig) -> None:
    """Check before any training that the model exists and that its weights are available.

    Whether a file fits the model is checked only when it is loaded.

    Raises:
        WeightsError: for the same reasons as in `create` and `pretrained_state`.
    """
    if not catalogue.known_model(config.name):
        raise WeightsError(_unknown(config.name))
    if isinstance(config.pretrained, str):
        _existing(config.pretrained)
    elif config.pretrained and _cached_file(config.name) is None:
        _refuse_if_offline(config.name)


def create(config: ModelConfig, num_classes: int) -> nn.Module:
    """Return the model on the CPU with timm's random initialisation, which uses torch's default generator.

    Raises:
        WeightsError: timm has no model of this name. The text gives similar names.
    """
    options: dict[str, Any] = {"drop_path_rate": config.drop_path} if config.drop_path else {}
    try:
        model = timm.create_model(config.name, pretrained=False, num_classes=num_classes, **options)
    except RuntimeError as error:
        if not catalogue.known_model(config.name):
            raise WeightsError(_unknown(config.name)) from error
        raise
    if config.bn_momentum is not None:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = config.bn_momentum
    return model


def pretrained_state(config: ModelConfig, model: nn.Module) -> dict[str, Tensor]:
    """Return the pretrained tensors for `model`, without the classifier if it is for another number of classes.

    Raises:
        WeightsError: no weights exist, they cannot be reached, or they belong to another architecture.
    """
    if isinstance(config.pretrained, str):
        path = _existing(config.pretrained)
        state = _load_file(path, path.stat().st_mtime_ns)
        return _fitting(state, model, str(path))
    return _fitting(_timm_state(config.name), model, f"timm's weights of {config.name}")


def _unknown(name: str) -> str:
    close = catalogue.close_models(name)
    return f"timm has no model {name!r}" + (f"; did you mean {' or '.join(close)}?" if close else "")


def _existing(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_file():
        raise WeightsError(f"model.pretrained: there is no file {path}; give a file, true or false")
    return path


@lru_cache(maxsize=2)
def _load_file(path: Path, modified: int) -> dict[str, Tensor]:
    """The tensors of a safetensors or state-dict file. Pickled code is never run."""
    try:
        state = load_state_dict(str(path), device="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
        raise WeightsError(
            f"{path} is neither an intact safetensors file nor a state dict of plain tensors: {error}"
        ) from error
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


@lru_cache(maxsize=2)
def _timm_state(name: str) -> dict[str, Tensor]:
    """The pretrained state of a timm model. If it is in the local cache, the network is not used."""
    cached = _cached_file(name)
    if cached is None:
        _refuse_if_offline(name)
    overlay: dict[str, Any] | None = {"file": str(cached)} if cached else None
    try:
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except RuntimeError as error:
        if not catalogue.known_model(name):
            raise WeightsError(_unknown(name)) from error
        raise WeightsError(f"{error} ({_remedies(name)})") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"cannot load the weights of {name}: {error} ({_remedies(name)})") from error
    return dict(model.state_dict())


def _cached_file(name: str) -> Path | None:
    """The file of the weights in huggingface_hub's cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    config = timm.get_pretrained_cfg(name)
    repository = config.hf_hub_id if config else None
    if not repository:
        return None
    for file in _HUB_FILES:
        path = try_to_load_from_cache(repository, file)
        if isinstance(path, str):
            return Path(path)
    return None


def _refuse_if_offline(name: str) -> None:
    """Raise at once the error that the hub's client raises after a minute of retries."""
    from huggingface_hub import constants

    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise WeightsError(f"timm has no pretrained weights for {name} ({_remedies(name)})")
    if constants.HF_HUB_OFFLINE:
        raise WeightsError(f"HF_HUB_OFFLINE is set, but the weights of {name} are not in the cache ({_remedies(name)})")
    host = urlsplit(os.environ.get("HF_ENDPOINT", constants.ENDPOINT)).hostname
    if urllib.request.getproxies():
        return
    try:
        socket.getaddrinfo(host, 443)
    except OSError as error:
        raise WeightsError(
            f"the weights of {name} are not in the cache, and {host} cannot be reached ({_remedies(name)})"
        ) from error


def _remedies(name: str) -> str:
    return (
        f"download {name} on a machine with a network and copy its ~/.cache/huggingface (or HF_HOME) to this machine; "
        "or give a safetensors or state-dict file with model.pretrained=PATH; or start from random weights with "
        "model.pretrained=false"
    )


def _fitting(state: dict[str, Tensor], model: nn.Module, source: str) -> dict[str, Tensor]:
    own = model.state_dict()
    heads = classifier_names(model)
    kept = {
        name: value
        for name, value in state.items()
        if name not in heads or (name in own and own[name].shape == value.shape)
    }
    if any(name not in kept for name in heads):
        kept = {name: value for name, value in kept.items() if name not in heads}
    missing = [name for name in own if name not in kept and name not in heads]
    unknown = [name for name in kept if name not in own]
    shapes = [name for name in kept if name in own and own[name].shape != kept[name].shape]
    problems = [
        f"{len(names)} {problem}, e.g. {names[0]}"
        for names, problem in ((missing, "missing"), (unknown, "unknown"), (shapes, "of another shape"))
        if names
    ]
    if problems:
        raise WeightsError(f"{source} does not fit {type(model).__name__}: tensors {'; '.join(problems)}")
    return kept


def classifiers(model: nn.Module) -> list[nn.Module]:
    """Return the final layers of a model; a few architectures have two."""
    layers = model.get_classifier()  # type: ignore[operator]
    return list(layers) if isinstance(layers, tuple | list) else [layers]


def classifier_names(model: nn.Module) -> set[str]:
    """Return the names of the final layers' tensors in the state dict."""
    heads = {id(head) for head in classifiers(model)}
    prefixes = [name for name, module in model.named_modules() if id(module) in heads]
    return {name for name in model.state_dict() if any(name.startswith(f"{prefix}.") for prefix in prefixes)}
