"""Initial weights: from timm's hub, its local cache or a file, with errors in plain words."""

from __future__ import annotations

import os
import socket
import urllib.request
import warnings
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from trainers.api import ModelConfig, WeightsError
from trainers.network import architecture, catalogue, weight_file, weight_fit, weight_path

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class WeightsWarning(UserWarning):
    """The weights fit the model, but may belong to another one."""


def check(config: ModelConfig) -> None:
    """Check before any training that the model exists and that its weights are available.

    Raises:
        WeightsError: for the same reasons as in `architecture.create` and `pretrained_state`.
    """
    check_source(config)
    if config.pretrained is True and _cached_file(config.name) is None:
        _refuse_if_offline(config.name)


def check_source(config: ModelConfig) -> None:
    """Check what needs no network: that the model exists, and that its weights are of timm or in a file that fits.

    A file is read, and its tensors are compared with those of the model, without memory for the model.

    Raises:
        WeightsError: for the same reasons as in `check`.
    """
    if not catalogue.known_model(config.name):
        raise WeightsError(catalogue.unknown(config.name))
    if isinstance(config.pretrained, str):
        with torch.device("meta"):
            model = architecture.create(config, 1)
        _file_state(config, model)
        _load_file.cache_clear()  # a driver only checks; it must not keep hundreds of megabytes
    elif config.pretrained:
        _refuse_without_weights(config.name)


def pretrained_state(config: ModelConfig, model: nn.Module, sizes: Collection[int] = ()) -> dict[str, Tensor]:
    """Return the pretrained tensors for `model`, without the classifier if it is for another number of classes.

    Position embeddings are resampled by timm if `model` was created for other image `sizes` than its weights.

    Raises:
        WeightsError: no weights exist, they cannot be reached, or they belong to another architecture.
    """
    if isinstance(config.pretrained, str):
        if text := catalogue.padding_warning(config.name, config.pretrained):
            warnings.warn(text, WeightsWarning, stacklevel=2)
        return _file_state(config, model)
    options = architecture.size_options(config.name, frozenset(sizes))
    state = _timm_state(config.name, tuple(options.items()))
    return weight_fit.fitted(state, model, f"timm's weights of {config.name}")


def _file_state(config: ModelConfig, model: nn.Module) -> dict[str, Tensor]:
    path = weight_path.existing(str(config.pretrained), config.name)
    state = _load_file(path, path.stat().st_mtime_ns)
    return weight_fit.fitted(state, model, str(path), weight_fit.timm_filter(config.name))


@lru_cache(maxsize=2)
def _load_file(path: Path, modified: int) -> dict[str, Tensor]:
    return weight_file.read(path)


@lru_cache(maxsize=2)
def _timm_state(name: str, options: tuple[tuple[str, Any], ...] = ()) -> dict[str, Tensor]:
    """The pretrained state of a timm model. If it is in the local cache, the network is not used."""
    cached = _cached_file(name)
    if cached is None:
        _refuse_without_weights(name)
        _refuse_if_offline(name)
    overlay: dict[str, Any] | None = {"file": str(cached)} if cached else None
    try:
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **dict(options))
    except RuntimeError as error:
        if not catalogue.known_model(name):
            raise WeightsError(catalogue.unknown(name)) from error
        raise WeightsError(f"{error} ({_remedies(name)})") from error
    except (OSError, ValueError, SafetensorError) as error:
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


def _refuse_without_weights(name: str) -> None:
    config = timm.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise WeightsError(
            f"timm has no pretrained weights for {name}; give a safetensors or state-dict file with "
            "model.pretrained=PATH, or start from random weights with model.pretrained=false"
        )


def _refuse_if_offline(name: str) -> None:
    """Raise at once the error that the hub's client raises after a minute of retries."""
    from huggingface_hub import constants

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
