"""The settings of one training, with units and bounds. The rules between settings stand at the end.

All classes are frozen dataclasses of the standard library, so they import fast and pickle to any worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from trainers.constraints import FORBID_EXTRA, Range, check


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The images, and the split of the training set into training and validation images.

    The test split is not a setting: only `trainers.retrain` uses it."""

    __pydantic_config__ = FORBID_EXTRA

    name: Literal["shapes", "cifar10", "cifar100", "folder", "hf"] = "cifar10"
    """`shapes`: a built-in data set of generated shapes: no download, computed on first use; `folder`: your own images,
    as `ROOT/train/CLASS/NAME.jpg` with `val` and `test` likewise if there are such images, or as `ROOT/CLASS/NAME.jpg`.
    Without `val`, validation images are drawn from the others; `hf`: a data set of the library `datasets`. See
    reports/docs/your_images.md."""
    root: str = "data"
    """Folder that contains `cifar-10-batches-py` or `cifar-100-python`, or the images of `folder`, or what
    `save_to_disk` has written for `hf`; `~` is expanded."""
    hub: str | None = None
    """For `hf`: name of a data set of the Hugging Face Hub, e.g. `uoft-cs/cifar10`, instead of `root`. It is downloaded
    to the cache of the library `datasets`."""
    cache_size: Annotated[int, Range(ge=8, le=1024)] = 256
    """Side in pixels at which images of `folder` and `hf` are kept: each is decoded once, its shorter side resized to
    this and its centre cut out. About the largest image size of the training; an image takes 3 x size^2 bytes."""
    download: bool = False
    """Download missing CIFAR files through torchvision, which checks their MD5."""
    validation_fraction: Annotated[float, Range(gt=0, lt=1)] = 0.1
    """Share of the training set that is held out for validation, the same share of every class."""
    split_seed: Annotated[int, Range(ge=0)] = 0
    """Seed of the split. All trials of a study use the same split."""
    class_weights: Literal["none", "balanced"] = "none"
    """How much an image counts in the training loss. `none`: all the same; `balanced`: images of rare classes more, by
    N / (classes x images of the class), so that every class counts the same and the mean weight is 1."""
    train_limit: Annotated[int, Range(ge=1)] | None = None
    """Largest number of training images, balanced over the classes; null: all. For small machines."""
    validation_limit: Annotated[int, Range(ge=1)] | None = None
    """Largest number of validation images, balanced over the classes; null: all."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network: a classifier of timm that can train on the image sizes of the study, which `hpo validate` checks."""

    __pydantic_config__ = FORBID_EXTRA

    name: str = "tf_efficientnetv2_s.in21k_ft_in1k"
    """timm model name, with or without a pretrained tag."""
    pretrained: bool | str = True
    """true: timm's pretrained weights; false: random weights; a path: a safetensors or state-dict file; a folder: one
    such file per model, named after it: `NAME.safetensors`, `.pth`, `.pt` or `.bin`, with or without the tag."""
    drop_path: Annotated[float, Range(ge=0, lt=1)] = 0.0
    """Stochastic depth: the probability that the last block is skipped. Earlier blocks have smaller rates. 0: none,
    also where the model has a rate of its own."""
    bn_momentum: Annotated[float, Range(gt=0, le=1)] | None = None
    """Share of each batch in the running batch-norm statistics; null: the model's own value. The `tf_` models have
    0.01, for long trainings. In a short training, validation then uses statistics of the first steps."""


@dataclass(frozen=True, kw_only=True)
class SizeRamp:
    """Image size of the first and the last stage, pixels."""

    __pydantic_config__ = FORBID_EXTRA

    start: Annotated[int, Range(ge=16, le=1024)] = 128
    """First stage, pixels."""
    end: Annotated[int, Range(ge=16, le=1024)] = 300
    """Last stage, pixels."""


@dataclass(frozen=True, kw_only=True)
class MagnitudeRamp:
    """RandAugment magnitude of the first and the last stage, on the scale of Google's code (0 to 10).

    Values above 10 extrapolate, as the paper's 15 to 25 do."""

    __pydantic_config__ = FORBID_EXTRA

    start: Annotated[float, Range(ge=0, le=30)] = 5.0
    """First stage."""
    end: Annotated[float, Range(ge=0, le=30)] = 15.0
    """Last stage."""


@dataclass(frozen=True, kw_only=True)
class AlphaRamp:
    """Mixup alpha of the first and the last stage."""

    __pydantic_config__ = FORBID_EXTRA

    start: Annotated[float, Range(ge=0, le=10)] = 0.0
    """First stage."""
    end: Annotated[float, Range(ge=0, le=10)] = 0.0
    """Last stage."""


@dataclass(frozen=True, kw_only=True)
class RateRamp:
    """Dropout rate of the first and the last stage."""

    __pydantic_config__ = FORBID_EXTRA

    start: Annotated[float, Range(ge=0, lt=1)] = 0.0
    """First stage."""
    end: Annotated[float, Range(ge=0, lt=1)] = 0.0
    """Last stage."""


@dataclass(frozen=True, kw_only=True)
class Progressive:
    """Progressive learning: image size and regularisation grow together (arXiv 2104.00298, section 4).

    `paper` (Algorithm 1): stage i of M (i from 0) has start + (end - start) * i / (M - 1).
    `google` (google/automl's code): size int(start + (end - start) * (i + 1) / M), RandAugment and mixup
    linspace(start, end, M), dropout constant at its end value.
    A training of one stage uses the end values.
    """

    __pydantic_config__ = FORBID_EXTRA

    form: Literal["paper", "google"] = "paper"
    """Formula of the stages."""
    stages: Annotated[int, Range(ge=1, le=16)] = 4
    """Number of stages, M. Each has an equal share of the epochs."""
    size: SizeRamp = field(default_factory=SizeRamp)
    """Training image size, pixels."""
    sizes: tuple[Annotated[int, Range(ge=16, le=1024)], ...] | None = None
    """Image size of every stage, pixels, instead of `size`: one number per stage, none smaller than the one before."""
    size_multiple: Annotated[int, Range(ge=1, le=64)] = 1
    """Round the sizes between the first and the last of `size` to multiples of this, pixels; 1: to whole pixels. With
    32, the stride of most networks, no feature map has an odd side, and GPUs compute such sizes faster."""
    randaugment: MagnitudeRamp = field(default_factory=MagnitudeRamp)
    """RandAugment magnitude; 0 switches RandAugment off."""
    dropout: RateRamp = field(default_factory=lambda: RateRamp(start=0.1, end=0.3))
    """Dropout rate before the classifier."""
    mixup: AlphaRamp = field(default_factory=AlphaRamp)
    """Mixup alpha; 0 switches mixup off."""
    grow_batch: bool = False
    """Use larger batches in stages with smaller images, so that every batch has as many pixels as in the last stage.
    The learning rate grows with the batch: linearly for SGD and RMSprop, by the square root for other optimisers."""
    reset_batchnorm: bool = False
    """Re-estimate the batch-norm statistics on training images when the image size changes."""


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Augmentation, except for the strength of RandAugment and mixup, which `progressive` sets.

    All of it runs on the device, with separate random numbers for each image."""

    __pydantic_config__ = FORBID_EXTRA

    flip: bool = True
    """Random horizontal flip."""
    crop: Literal["none", "pad", "resized"] = "pad"
    """`pad`: pad by an eighth of the side with reflected pixels, then crop; `resized`: RandomResizedCrop."""
    crop_scale: Annotated[float, Range(gt=0, le=1)] = 0.08
    """Smallest share of the image's area that `crop: resized` shows."""
    randaugment_layers: Annotated[int, Range(ge=0, le=8)] = 2
    """Operations per image (N of RandAugment); 0 switches RandAugment off."""
    randaugment_form: Literal["published", "increasing"] = "published"
    """How the effect of an operation depends on the magnitude. `published`: Google's formulas, by which colours change
    as much just above magnitude 0 as at 5. `increasing`: the effect grows from none at 0, as with timm's `inc1`. Take
    it where magnitudes below 5 are used or searched; see reports/docs/search_spaces.md."""
    cutout: Annotated[float, Range(ge=0, lt=1)] = 0.0
    """Side of the erased square as a share of the image's side; 0 switches cutout off."""
    erase: Annotated[float, Range(ge=0, le=1)] = 0.0
    """Probability of random erasing; 0 switches it off."""
    cutmix: Annotated[float, Range(ge=0, le=10)] = 0.0
    """CutMix alpha; 0 switches CutMix off. With mixup, each image gets one of the two at random."""


@dataclass(frozen=True, kw_only=True)
class Ema:
    """Exponential moving average of the weights."""

    __pydantic_config__ = FORBID_EXTRA

    decay: Annotated[float, Range(ge=0, lt=1)] = 0.0
    """Share of the old average that remains after a step; 0 switches the average off. With warm-up, the decay of step t
    is min(decay, (1 + t) / (10 + t))."""
    warmup: bool = True
    """Start with a small decay, so that the average soon forgets the initial weights."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The training. All schedules span `epochs`, even if the trial is stopped early."""

    __pydantic_config__ = FORBID_EXTRA

    epochs: Annotated[int, Range(ge=1)] = 50
    """Length of a full training, epochs."""
    batch_size: Annotated[int, Range(ge=1)] | Literal["auto"] = 128
    """Images per optimiser step. `auto`: the largest batch of the last stage that fits into the GPU's memory; `lr` then
    applies to 128 images and is scaled to the actual batch, as `grow_batch` does."""
    accumulate: Annotated[int, Range(ge=1)] | Literal["auto"] = 1
    """Parts of a batch that are computed one after another to save memory; their gradients are added. There are fewer
    parts if they would have one image, because batch normalisation needs two. `auto`: in each stage the fewest parts
    that fit into the GPU's memory, measured once per image size; on the CPU one. Batch normalisation sees one part at a
    time, so another GPU may train slightly other weights; a resumed training keeps its parts."""
    optimizer: Literal["adamw", "sgd", "rmsprop", "lamb", "muon"] = "adamw"
    """Optimiser, as timm implements it. `sgd` has Nesterov's or classical momentum; see `nesterov`."""
    lr: Annotated[float, Range(gt=0)] = 1e-3
    """Largest learning rate of the schedule."""
    min_lr_ratio: Annotated[float, Range(ge=0, le=1)] = 0.01
    """Cosine schedule: the last learning rate divided by the largest."""
    schedule: Literal["cosine", "onecycle", "constant"] = "cosine"
    """Course of the learning rate over all `epochs`, after the warm-up."""
    warmup_epochs: Annotated[float, Range(ge=0)] = 0.0
    """Epochs of linear warm-up; fewer than `epochs`."""
    weight_decay: Annotated[float, Range(ge=0)] = 0.05
    """Weight decay; not applied to normalisation layers and biases."""
    momentum: Annotated[float, Range(ge=0, lt=1)] = 0.9
    """Momentum of SGD and RMSprop, 0: none; the first beta of other optimisers."""
    nesterov: bool = True
    """true: `sgd` uses Nesterov's momentum; false: classical momentum. No effect on other optimisers, nor if
    `momentum` is 0."""
    layer_decay: Annotated[float, Range(gt=0, le=1)] = 1.0
    """Factor of the learning rate from one layer group to the next, from the classifier down; 1: one rate for all."""
    freeze_blocks: Annotated[int, Range(ge=0)] = 0
    """Do not train the stem and this many first stages of the model; 0 trains everything."""
    clip_grad: Annotated[float, Range(ge=0)] = 1.0
    """Largest norm of the gradient; 0 switches clipping off."""
    label_smoothing: Annotated[float, Range(ge=0, lt=1)] = 0.1
    """Probability that the targets spread evenly over all classes."""
    ema: Ema = field(default_factory=Ema)
    """Exponential moving average of the weights."""
    score: Literal["auto", "raw", "ema"] = "auto"
    """Weights that `val_accuracy` refers to. `auto`: the averaged weights if EMA is on, because they rank trials better
    early in a training; otherwise the raw weights. With EMA, the other weights are evaluated at the end of each stage,
    and both accuracies are reported there."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """`auto`: bf16 autocast on GPUs that support it, otherwise fp32. With fp16, adamw and sgd skip a step whose
    gradients overflow; rmsprop, lamb and muon make the step with gradients of 0."""
    channels_last: bool = True
    """Store images and convolution weights channel by channel within a pixel, which is faster on most devices."""
    compile: bool = False
    """Use torch.compile: one graph per image size."""
    cuda_graphs: bool | Literal["auto"] = "auto"
    """Record whole training steps and evaluation batches once per image size as CUDA graphs and replay them. Faster on
    GPUs, where starting kernels one by one takes longer than running them. `auto`: on CUDA devices, unless `compile` is
    on. If a network cannot be recorded, the trial goes on in a new process without graphs, and this machine does not
    try that network again. No effect on the CPU."""
    eval_size: Annotated[int, Range(ge=16, le=1024)] | None = None
    """Image size of every evaluation, pixels; null: the size of the last stage. If a study searches the size of the
    last stage, set the largest size here, so that all trials are evaluated in the same way."""
    compute_size: Annotated[int, Range(ge=16, le=1024)] | None = None
    """Image size, pixels, at which one epoch counts as one unit of compute; null: the size of the largest stage. If a
    study searches the size of the last stage, set the largest size here, so that all trials use the same unit."""
    eval_batch_size: Annotated[int, Range(ge=1)] = 256
    """Images per evaluation batch."""
    checkpoint_every: Annotated[int, Range(ge=1)] = 1
    """Epochs between two checkpoints. The last epoch is always saved."""
    augment: Augment = field(default_factory=Augment)
    """Augmentation that stays the same in all stages."""
    progressive: Progressive = field(default_factory=Progressive)
    """Image size and regularisation of each stage."""


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """All settings of one training: a trial runs it, an export contains it and `retrain` repeats it.

    A setting out of bounds or a contradiction between settings raises a ValueError that lists all problems."""

    __pydantic_config__ = FORBID_EXTRA

    data: DataConfig = field(default_factory=DataConfig)
    """The images and their split."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The training settings."""
    extra: dict[str, bool | int | float | str] = field(default_factory=dict)
    """Settings of your own trainer. The shipped trainer has none."""

    def __post_init__(self) -> None:
        problems = check(self) or list(cross_checks(self))
        if problems:
            raise ValueError("; ".join(f"{path}: {rule}" for path, rule in problems))


def cross_checks(config: TrialConfig) -> Iterator[tuple[str, str]]:
    """Yield each broken rule between fields as (dotted path, problem)."""
    progressive = config.train.progressive
    if progressive.sizes is not None:
        if len(progressive.sizes) != progressive.stages:
            yield (
                "train.progressive.sizes",
                f"has {len(progressive.sizes)} sizes, but train.progressive.stages is {progressive.stages}; "
                "give one size per stage",
            )
        if any(b < a for a, b in zip(progressive.sizes, progressive.sizes[1:], strict=False)):
            yield (
                "train.progressive.sizes",
                f"image sizes must not shrink between stages, got {list(progressive.sizes)}",
            )
    elif progressive.stages > 1 and progressive.size.start > progressive.size.end:
        yield (
            "train.progressive.size",
            f"image sizes must not shrink between stages, but start {progressive.size.start} is larger than "
            f"end {progressive.size.end}",
        )
    if progressive.stages > config.train.epochs:
        yield (
            "train.progressive.stages",
            f"{progressive.stages} stages need at least {progressive.stages} epochs, "
            f"but train.epochs is {config.train.epochs}",
        )
    if config.train.warmup_epochs >= config.train.epochs:
        yield (
            "train.warmup_epochs",
            f"must be less than train.epochs ({config.train.epochs}), got {config.train.warmup_epochs:g}",
        )
    if config.train.score == "ema" and config.train.ema.decay == 0:
        yield "train.score", "ema needs averaged weights, but train.ema.decay is 0 (off)"
    if config.train.cuda_graphs is True and config.train.compile:
        yield "train.cuda_graphs", "cannot be combined with train.compile; choose one of them"
