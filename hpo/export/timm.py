"""A configuration as a YAML file for timm's own training script: `train.py --config FILE`.

The script is part of timm's repository, not of its package, so the package installed here cannot be asked which keys
it takes; and it silently ignores a key that it does not know. `ARGUMENTS` below is what this module relies on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hpo.spec.training import Training
from hpo.spec.yaml_writer import dump
from trainers import schedule
from trainers.schedule import Stage

SOURCE = (
    "train.py of huggingface/pytorch-image-models, commit 2aabaef039d9 (2023), and the 1.0 releases, "
    "which kept all of these"
)
_BY_KIND = {
    "text": "dataset data_dir train_split val_split model interpolation train_interpolation torchcompile amp_dtype opt"
    " clip_mode sched aa remode mixup_mode",
    "switch": "dataset_download pretrained channels_last amp sched_on_updates warmup_prefix model_ema",
    "whole": "num_classes batch_size validation_batch_size grad_accum_steps epochs warmup_epochs cooldown_epochs seed",
    "number": "crop_pct bn_momentum drop drop_path opt_eps momentum weight_decay clip_grad layer_decay lr min_lr"
    " warmup_lr hflip color_jitter reprob smoothing mixup cutmix mixup_prob mixup_switch_prob model_ema_decay",
    "numbers": "input_size opt_betas scale ratio",
}
_ONLY_1_0 = {"pretrained_path": "text", "model_ema_warmup": "switch"}
ARGUMENTS = {name: kind for kind, names in _BY_KIND.items() for name in names.split()} | _ONLY_1_0
"""The script's arguments that a file may set, by destination, and what each takes. See `SOURCE`."""

_EXPONENT = re.compile(r"(?m)(?<=[ ])(-?\d+)(e[-+]\d+)$")
POINT = r"\1.0\2"
"""PyYAML, which the script reads with, takes `1e-05` for text and `1.0e-05` for a number."""

CLASSES = {"cifar10": 10, "cifar100": 100, "shapes": 10}
AMP = {"auto": "bfloat16", "bf16": "bfloat16", "fp16": "float16"}


def timm_yaml(training: Training) -> str:
    """The file: what timm can say as keys, and in a comment what it cannot and how the stages differ."""
    settings = timm_settings(training)
    unknown = settings.keys() - ARGUMENTS
    if unknown:
        raise AssertionError(f"not among the arguments of timm's script: {', '.join(sorted(unknown))}")
    comment = "\n".join(f"# {line}".rstrip() for line in header(training))
    return f"{comment}\n\n{_EXPONENT.sub(POINT, dump(settings))}"


def timm_settings(training: Training) -> dict[str, Any]:
    """Keys and values of `ARGUMENTS`; ramps stand at their last stage, which is also the one evaluated."""
    return _data(training) | _model(training) | _optimizer(training) | _schedule(training) | _augmentation(training)


def _data(training: Training) -> dict[str, Any]:
    if training.data.name == "shapes":
        return {}
    return {
        "dataset": f"torch/{training.data.name}",
        "data_dir": training.data.root,
        "dataset_download": training.data.download,
        "train_split": "train",
        "val_split": "validation",
    }


def _model(training: Training) -> dict[str, Any]:
    model, train = training.model, training.train
    size = _stages(training)[-1].size
    found: dict[str, Any] = {
        "model": model.name,
        "pretrained": model.pretrained is not False,
        "num_classes": CLASSES[training.data.name],
        "input_size": [3, size, size],
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "drop": _stages(training)[-1].dropout,
        "drop_path": model.drop_path,
        "channels_last": train.channels_last,
        "amp": train.precision in AMP,
    }
    if isinstance(model.pretrained, str):
        found["pretrained_path"] = model.pretrained
    if model.bn_momentum is not None:
        found["bn_momentum"] = model.bn_momentum
    if train.precision in AMP:
        found["amp_dtype"] = AMP[train.precision]
    if train.compile:
        found["torchcompile"] = "inductor"
    return found


def _optimizer(training: Training) -> dict[str, Any]:
    train = training.train
    batch = train.batch_size if isinstance(train.batch_size, int) else 128
    found: dict[str, Any] = {
        "batch_size": max(1, batch // train.accumulate),
        "grad_accum_steps": train.accumulate,
        "validation_batch_size": train.eval_batch_size,
        "opt": "rmsproptf" if train.optimizer == "rmsprop" else train.optimizer,
        "lr": train.lr,
        "weight_decay": train.weight_decay,
        "momentum": train.momentum,
        "clip_grad": train.clip_grad or None,
        "clip_mode": "norm",
        "layer_decay": train.layer_decay if train.layer_decay < 1 else None,
    }
    if train.optimizer in ("adamw", "lamb", "muon"):
        found["opt_betas"] = [train.momentum, 0.999]
    if train.optimizer == "rmsprop":
        found["opt_eps"] = 1e-3
    return found


def _schedule(training: Training) -> dict[str, Any]:
    """With `warmup_prefix` timm trains `warmup_epochs` more than `epochs`, and anneals over `epochs`, as here."""
    train = training.train
    if train.schedule == "onecycle":
        rise = schedule.rising_epochs(train)
        start, end = schedule.ONECYCLE_START, schedule.ONECYCLE_END
    else:
        rise, start = train.warmup_epochs, schedule.WARMUP_START
        end = 1.0 if train.schedule == "constant" else train.min_lr_ratio
    warmup = min(round(rise), train.epochs - 1)
    return {
        "epochs": train.epochs - warmup,
        "sched": "cosine",
        "sched_on_updates": True,
        "warmup_epochs": warmup,
        "warmup_prefix": True,
        "warmup_lr": train.lr * start,
        "min_lr": train.lr * end,
        "cooldown_epochs": 0,
    }


def _augmentation(training: Training) -> dict[str, Any]:
    train, last = training.train, _stages(training)[-1]
    augment = train.augment
    resized = augment.crop == "resized"
    found: dict[str, Any] = {
        "scale": [augment.crop_scale if resized else 1.0, 1.0],
        "ratio": [3 / 4, 4 / 3] if resized else [1.0, 1.0],
        "hflip": 0.5 if augment.flip else 0.0,
        "color_jitter": None,
        "aa": randaugment(last.randaugment, augment.randaugment_layers),
        "train_interpolation": "bilinear",
        "reprob": augment.erase,
        "remode": "const",
        "mixup": last.mixup,
        "cutmix": augment.cutmix,
        "mixup_prob": 1.0,
        "mixup_switch_prob": 0.5,
        "mixup_mode": "elem",
        "smoothing": train.label_smoothing,
        "model_ema": train.ema.decay > 0,
        "seed": (training.provenance.seed or 0) % 2**32 if training.provenance else 0,
    }
    if train.ema.decay:
        found |= {"model_ema_decay": train.ema.decay, "model_ema_warmup": train.ema.warmup}
    return found


def randaugment(magnitude: float, layers: int) -> str | None:
    """timm's name for a RandAugment of this canonical magnitude (0 to 30); None without layers."""
    # Imported here, because they load torch, which an export in this tool's own format does not need.
    from trainers.augment.magnitude import to_timm
    from trainers.augment.randaugment import MAGNITUDE_STD

    return to_timm(magnitude, layers=layers, std=MAGNITUDE_STD) if layers else None


# ------------------------------------------------------------------------------------------------ header


def header(training: Training) -> list[str]:
    """The comment: source, command, the stages, and what differs."""
    return [
        training.description or "A training configuration",
        "",
        "For timm's own script, which is in its repository but not in its package:",
        "  python train.py --config THIS_FILE",
        f"Keys: {SOURCE}.",
        "",
        "timm has no progressive learning: this file trains all epochs at the last stage. The stages were:",
        *_stage_table(training),
        "",
        "What timm does otherwise, or cannot do:",
        *(f"- {difference}" for difference in differences(training)),
    ]


def _stages(training: Training) -> tuple[Stage, ...]:
    return schedule.stages(training.train.progressive, training.train.epochs)


def _stage_table(training: Training) -> Iterator[str]:
    yield "  epochs      px  RandAugment  dropout   mixup   batch"
    train, stages = training.train, _stages(training)
    for stage in stages:
        batch: int | str = train.batch_size
        if isinstance(batch, int) and train.progressive.grow_batch:
            batch = schedule.batch_size(batch, stage.size, stages[-1].size)
        epochs = f"{stage.first_epoch}-{stage.last_epoch}"
        yield (
            f"  {epochs:>8}  {stage.size:>4}  {stage.randaugment:>11.4g}  {stage.dropout:>7.3g}  {stage.mixup:>6.3g}"
            f"  {batch:>6}"
        )


def differences(training: Training) -> Iterator[str]:
    """Every setting that the file cannot carry over exactly, in words."""
    train, augment, data = training.train, training.train.augment, training.data
    if data.name == "shapes":
        yield "the data set shapes is built into hpo; give timm one of yours by --data-dir"
    else:
        yield (
            f"it evaluates the test split after every epoch; {data.validation_fraction:g} of the training images were "
            f"held out here (split seed {data.split_seed})"
        )
    for name in ("train_limit", "validation_limit"):
        if getattr(data, name) is not None:
            yield f"data.{name} was {getattr(data, name)}"
    if train.schedule == "onecycle":
        yield "one-cycle: the rise is linear instead of a cosine, and in whole epochs"
    elif train.warmup_epochs != round(train.warmup_epochs):
        yield f"warm-up was {train.warmup_epochs:g} epochs; timm takes whole ones"
    if train.batch_size == "auto":
        yield "the batch size was found at run time; 128 stands for it"
    elif train.batch_size % train.accumulate:
        yield f"batches of {train.batch_size} were cut into {train.accumulate} unequal micro-batches"
    if augment.crop == "pad":
        yield "crop: pad (reflect-pad by an eighth, crop) is left out: timm pads nothing"
    if augment.cutout:
        yield f"cutout of {augment.cutout:g} of the side is left out"
    if augment.randaugment_layers:
        last = _stages(training)[-1]
        rounded = "" if last.randaugment == round(last.randaugment) else f", which was {last.randaugment:g}"
        yield f"RandAugment: whole magnitudes only{rounded}; cutout is not among its operations"
    if train.progressive.mixup.end or augment.cutmix:
        yield "mixup's share of the other image may exceed 1/2"
    if train.freeze_blocks:
        yield f"train.freeze_blocks was {train.freeze_blocks}; timm trains all"
    if train.progressive.reset_batchnorm:
        yield "batch-norm statistics were re-estimated after each change of size"
    if train.optimizer == "muon":
        yield "muon left the classifier to AdamW; name it by --opt-kwargs fallback_list=..."
    if train.ema.decay and train.ema.warmup:
        yield "the average's warm-up follows another curve (timm: 1 - (1 + t) ** -2/3)"
    if train.ema.decay:
        yield f"the score was of the {'raw' if train.score == 'raw' else 'averaged'} weights; timm reports both"
    if train.eval_size is not None and train.eval_size != _stages(training)[-1].size:
        yield f"evaluation was at {train.eval_size} px; timm evaluates at the training size"
    if train.precision == "tf32":
        yield "precision: tf32; timm's script allows it on CUDA by itself"
    if train.precision == "auto":
        yield "precision: auto is bfloat16 on devices that have it, float32 elsewhere: set amp to false there"
