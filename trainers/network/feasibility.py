"""What the network of a configuration cannot do, found before a training and without memory for the network."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from timm import optim

from trainers import schedule
from trainers.api import ModelConfig, TrainConfig, TrainerError
from trainers.network import batchnorm, weight_fit
from trainers.network import model as models
from trainers.network.architecture import batch_norms, fixed_size, has_stochastic_depth, meta_network, size_options


def network_problems(model: ModelConfig, train: TrainConfig, images: int | None = None) -> Iterator[tuple[str, str]]:
    """Yield each setting that does not fit the network as (dotted path, problem). timm must know the model.

    `images` is the largest number of training images, if there is one.
    """
    name = model.name
    plan = schedule.stages(train.progressive, train.epochs)
    sizes = frozenset({train.eval_size or plan[-1].size, *(stage.size for stage in plan)})
    if problem := _network_problem(name) or _size_problem(name, sizes):
        yield "model.name", problem
        return
    if model.drop_path and not has_stochastic_depth(name):
        yield "model.drop_path", f"{name} has no stochastic depth; set model.drop_path to 0"
    if model.bn_momentum is not None and not batch_norms(meta_network(name).net):
        yield "model.bn_momentum", f"{name} has no batch normalisation; set model.bn_momentum to null"
    if train.freeze_blocks and (problem := _freeze_problem(name, train.freeze_blocks)):
        yield "train.freeze_blocks", problem
    if train.layer_decay < 1 and (problem := _layer_problem(name)):
        yield "train.layer_decay", problem
    options = tuple(size_options(name, sizes).items())
    alone = (size for size in _sizes_of_single_images(train, plan, images) if not _takes_one_image(name, size, options))
    for size in itertools.islice(alone, 1):
        yield "data.train_limit" if images == 1 else "train.batch_size", batchnorm.single_value_rule(size)


def _sizes_of_single_images(train: TrainConfig, plan: tuple[schedule.Stage, ...], images: int | None) -> list[int]:
    """The image sizes of the stages whose batches are one image."""
    batch = 1 if images == 1 else train.batch_size
    if batch != 1:
        return []
    grows = train.progressive.grow_batch and images != 1
    return [stage.size for stage in plan if not grows or schedule.batch_size(1, stage.size, plan[-1].size) == 1]


@functools.lru_cache(maxsize=64)
def _network_problem(name: str) -> str | None:
    """Why the network is of no use at any size; None if it is."""
    try:
        weight_fit.classifiers(meta_network(name).net)
    except AttributeError:
        return f"{name} is no classifier; choose another model"
    except Exception as error:  # noqa: BLE001 - timm's constructors raise exceptions of any type
        return f"timm cannot build {name} ({error}); choose another model"
    return None


@functools.lru_cache(maxsize=1024)
def _size_problem(name: str, sizes: frozenset[int]) -> str | None:
    """Why the network cannot compute images of all `sizes`; None if it can."""
    options = size_options(name, sizes)
    refusals = meta_network(name, tuple(options.items())).refusals(sizes)
    if not refusals:
        return None
    one = fixed_size(name) and len(sizes) > 1 and "dynamic_img_size" not in options
    if one and not any(_size_problem(name, frozenset({size})) for size in sizes):
        return (
            f"{name} takes images of one size in a training, but the stages and the evaluation have {_listed(sizes)} "
            "px; use one size for all, or choose a model for images of any size"
        )
    reason = next(iter(refusals.values()))
    return f"{name} cannot compute images of {_listed(refusals)} px ({reason}); choose other sizes or another model"


@functools.lru_cache(maxsize=256)
def _freeze_problem(name: str, blocks: int) -> str | None:
    model = models.Model(meta_network(name).net, (), (), models.Dropout(torch.device("meta")))
    try:
        models.freeze(model, blocks)
    except TrainerError as error:
        return str(error).partition(": ")[2]
    except Exception as error:  # noqa: BLE001 - a model may have no groups, or wrong ones
        return f"timm does not divide {name} into blocks ({error}); set train.freeze_blocks to 0"
    return None


@functools.lru_cache(maxsize=64)
def _layer_problem(name: str) -> str | None:
    try:
        optim.param_groups_layer_decay(meta_network(name).net)  # type: ignore[attr-defined]
    except Exception as error:  # noqa: BLE001 - as in `_freeze_problem`
        return f"timm does not divide {name} into layers ({error}); set train.layer_decay to 1"
    return None


@functools.lru_cache(maxsize=256)
def _takes_one_image(name: str, size: int, options: tuple[tuple[str, Any], ...]) -> bool:
    """Whether the network can train on batches of one image of `size` px."""
    try:
        with torch.no_grad():
            meta_network(name, options).net(torch.zeros(1, 3, size, size, device="meta"))
    except ValueError as error:
        if not batchnorm.lacks_values(error):
            raise
        return False
    return True


def _listed(sizes: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(sizes)))
