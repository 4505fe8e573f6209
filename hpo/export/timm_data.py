"""The images of a configuration, in the terms of timm's training script."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trainers.api import DataConfig
from trainers.data.folder import Folder
from trainers.data.hub import Hub

CLASSES = {"cifar10": 10, "cifar100": 100, "shapes": 10}


def data_settings(data: DataConfig) -> dict[str, Any]:
    """Values by key of timm's script, but for the number of classes."""
    splits = {"train_split": "train", "val_split": "validation"}
    if data.name == "folder":
        return {"data_dir": data.root, **splits}
    if data.name == "hf" and data.hub:
        return {"dataset": f"hfds/{data.hub}", **splits}
    if data.name in ("shapes", "hf"):
        return {}
    return {
        "dataset": f"torch/{data.name}",
        "data_dir": data.root,
        "dataset_download": data.download,
        **splits,
    }


def class_count(data: DataConfig) -> int:
    """The number of classes. Those of images of one's own are counted where the images are.

    Raises:
        DataError: they are not there.
    """
    if data.name in CLASSES:
        return CLASSES[data.name]
    return len((Folder(data) if data.name == "folder" else Hub(data)).classes())


def data_differences(data: DataConfig) -> Iterator[str]:
    """What timm does in another way, a sentence each."""
    if data.name == "shapes":
        yield "the data set shapes is built into hpo: give timm a data set of yours with --data-dir"
    elif data.name == "hf" and not data.hub:
        yield "timm cannot read a data set that save_to_disk wrote: give it one of the Hub with --dataset hfds/NAME"
    elif data.name in ("folder", "hf"):
        yield (
            "timm takes the parts train and validation (or val), and decodes the images again in each epoch; "
            f"hpo decoded them once, at {data.cache_size} px"
        )
    else:
        yield (
            f"timm evaluates the test split after every epoch; hpo evaluated {data.validation_fraction:g} of the "
            f"training images, which it did not train on (split seed {data.split_seed})"
        )
    for name in ("train_limit", "validation_limit"):
        if getattr(data, name) is not None:
            yield f"timm uses all images; data.{name} was {getattr(data, name)}"
