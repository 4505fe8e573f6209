"""A configuration as a YAML file for timm's own training script: `train.py --config FILE`.

The script is part of timm's repository, not of its package, so the installed package does not say which keys the script
takes. The script silently ignores unknown keys. So `ARGUMENTS` below lists the keys that this module may write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from hpo.export.timm_data import class_count, data_differences, data_settings
from hpo.spec.training import Training
from hpo.spec.yaml_writer import dump
from trainers import schedule
from trainers.api import Augment, TrainConfig
from trainers.network import weight_path
from trainers.schedule import Stage

SOURCE = (
    "train.py of huggingface/pytorch-image-models, commit 2aabaef039d9 (2023), and the 1.0 releases, "
    "which kept all of these keys"
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
"""The script's arguments that a file may set, and the kind of value of each. See `SOURCE`."""

_EXPONENT = re.compile(r"(?m)(?<=[ ])(-?\d+)(e[-+]\d+)$")
POINT = r"\1.0\2"
"""PyYAML, with which the script reads the file, takes `1e-05` for text and `1.0e-05` for a number."""

AUTO_BATCH_SIZE = 128
"""Written for the batch size `auto`."""
AMP = {"auto": "bfloat16", "bf16": "bfloat16", "fp16": "float16"}


def timm_yaml(training: Training) -> str:
    """The text of the file: a comment with the stages and with what timm cannot do, then timm's keys."""
    settings = timm_settings(training)
    unknown = settings.keys() - ARGUMENTS
    if unknown:
        raise AssertionError(f"not among the arguments of timm's script: {', '.join(sorted(unknown))}")
    comment = "\n".join(f"# {line}".rstrip() for line in header(training))
    return f"{comment}\n\n{_EXPONENT.sub(POINT, dump(settings))}"


def timm_settings(training: Training) -> dict[str, Any]:
    """Values by key of `ARGUMENTS`. Settings that change over the stages have the value of the last stage."""
    return (
        data_settings(training.data)
        | _model(training)
        | _optimizer(training)
        | _schedule(training)
        | _augmentation(training)
    )


def _model(training: Training) -> dict[str, Any]:
    from trainers.network.architecture import has_stochastic_depth  # loads torch, as in `randaugment`

    model, train = training.model, training.train
    size = _stages(training)[-1].size
    settings: dict[str, Any] = {
        "model": model.name,
        "pretrained": model.pretrained is not False,
        "num_classes": class_count(training.data),
        "input_size": [3, size, size],
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "drop": _stages(training)[-1].dropout,
        "drop_path": model.drop_path if has_stochastic_depth(model.name) else None,
        "channels_last": train.channels_last,
        "amp": train.precision in AMP,
    }
    if isinstance(model.pretrained, str):
        settings["pretrained_path"] = str(weight_path.in_folder(model.pretrained, model.name) or model.pretrained)
    if model.bn_momentum is not None:
        settings["bn_momentum"] = model.bn_momentum
    if train.precision in AMP:
        settings["amp_dtype"] = AMP[train.precision]
    if train.compile:
        settings["torchcompile"] = "inductor"
    return settings


def _optimizer(training: Training) -> dict[str, Any]:
    from trainers.loop.optimizers import timm_name  # loads torch, as in `randaugment`

    train = training.train
    batch = train.batch_size if isinstance(train.batch_size, int) else AUTO_BATCH_SIZE
    parts = train.accumulate if isinstance(train.accumulate, int) else 1
    settings: dict[str, Any] = {
        "batch_size": max(1, batch // parts),
        "grad_accum_steps": parts,
        "validation_batch_size": train.eval_batch_size,
        "opt": timm_name(train),
        "lr": train.lr,
        "weight_decay": train.weight_decay,
        "momentum": train.momentum,
        "clip_grad": train.clip_grad or None,
        "clip_mode": "norm",
        "layer_decay": train.layer_decay if train.layer_decay < 1 else None,
    }
    if train.optimizer in ("adamw", "lamb", "muon"):
        settings["opt_betas"] = [train.momentum, 0.999]
    if train.optimizer == "rmsprop":
        settings["opt_eps"] = 1e-3
    return settings


def _schedule(training: Training) -> dict[str, Any]:
    """With `warmup_prefix`, timm trains `warmup_epochs` first and anneals over the `epochs` after them, as hpo does."""
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
    settings: dict[str, Any] = {
        "scale": [augment.crop_scale if resized else 1.0, 1.0],
        "ratio": [3 / 4, 4 / 3] if resized else [1.0, 1.0],
        "hflip": 0.5 if augment.flip else 0.0,
        "color_jitter": None,
        "aa": randaugment(last.randaugment, augment),
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
        settings |= {"model_ema_decay": train.ema.decay, "model_ema_warmup": train.ema.warmup}
    return settings


def randaugment(magnitude: float, augment: Augment) -> str | None:
    """timm's name for a RandAugment of this canonical magnitude (0 to 30); None without layers."""
    # Imported here, because they load torch, which an export in this tool's own format does not need.
    from trainers.augment.magnitude import to_timm
    from trainers.augment.randaugment import MAGNITUDE_STD

    if not augment.randaugment_layers:
        return None
    increasing = augment.randaugment_form == "increasing"
    return to_timm(magnitude, layers=augment.randaugment_layers, std=MAGNITUDE_STD, increasing=increasing)


# ------------------------------------------------------------------------------------------------ header


def header(training: Training) -> list[str]:
    """The lines of the comment: source, command, stages and differences."""
    return [
        training.description or "A training configuration",
        "",
        "For timm's training script, which is in timm's repository but not in its package:",
        "  python train.py --config THIS_FILE",
        f"Keys: {SOURCE}.",
        "",
        "timm has no progressive learning: with this file it trains all epochs at the last stage. The stages were:",
        *_stage_table(training),
        "",
        "Differences to the training by hpo:",
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
    """The settings that the file cannot reproduce exactly, a sentence each."""
    yield from data_differences(training.data)
    yield from _schedule_differences(training.train)
    yield from _augmentation_differences(training)
    yield from _weight_differences(training.train)
    yield from _evaluation_differences(training)


def _schedule_differences(train: TrainConfig) -> Iterator[str]:
    if train.schedule == "onecycle":
        yield "one-cycle: the learning rate rises linearly in whole epochs, not along a cosine"
    elif train.warmup_epochs != round(train.warmup_epochs):
        yield f"timm's warm-up is a whole number of epochs; train.warmup_epochs was {train.warmup_epochs:g}"
    if train.batch_size == "auto":
        yield f"the batch size is {AUTO_BATCH_SIZE}; train.batch_size was auto, so hpo chose it at run time"
    elif train.accumulate == "auto":
        yield "there are no micro-batches; train.accumulate was auto, so hpo chose them at run time"
    elif train.batch_size % train.accumulate:
        yield f"timm's micro-batches have equal sizes; {train.accumulate} do not divide {train.batch_size}"


def _augmentation_differences(training: Training) -> Iterator[str]:
    train, augment = training.train, training.train.augment
    if augment.crop == "pad":
        yield "timm has no crop: pad (reflect-pad by an eighth, then crop)"
    if augment.cutout:
        yield f"timm has no cutout; train.augment.cutout was {augment.cutout:g} of the side"
    if augment.randaugment_layers:
        magnitude = _stages(training)[-1].randaugment
        rounded = "" if magnitude == round(magnitude) else f" (it was {magnitude:g})"
        yield f"RandAugment: timm's magnitudes are whole numbers{rounded}, and its operations do not include cutout"
        if augment.randaugment_form == "increasing":
            yield (
                "RandAugment's increasing form: timm's inc1 keeps 4 bits less int(0.4 M) when it posterizes, and "
                "equalizes, inverts and autocontrasts in full at every magnitude"
            )
    if train.progressive.mixup.end or augment.cutmix:
        yield "in timm's mixup, the share of the second image can exceed 1/2"


def _weight_differences(train: TrainConfig) -> Iterator[str]:
    if train.freeze_blocks:
        yield f"timm trains all blocks; train.freeze_blocks was {train.freeze_blocks}"
    if train.progressive.reset_batchnorm:
        yield "timm does not re-estimate the batch-norm statistics after each change of the image size"
    if train.optimizer == "muon":
        yield "hpo trains the classifier with AdamW beside muon; do so with --opt-kwargs fallback_list=..."
    if train.ema.decay and train.ema.warmup:
        yield "the warm-up of the weight average follows another curve (timm: 1 - (1 + t) ** -2/3)"


def _evaluation_differences(training: Training) -> Iterator[str]:
    train, size = training.train, _stages(training)[-1].size
    if train.ema.decay:
        weights = "raw" if train.score == "raw" else "averaged"
        yield f"timm reports an accuracy for the raw and for the averaged weights; hpo scored the {weights} weights"
    if train.eval_size is not None and train.eval_size != size:
        yield f"timm evaluates at the training size; train.eval_size was {train.eval_size} px"
    if train.precision == "tf32":
        yield "precision tf32: timm's script enables it on CUDA by itself"
    if train.precision == "auto":
        yield "precision auto: bfloat16 on devices that have it, float32 on others; for those set amp to false"
