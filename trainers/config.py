"""Everything that can be set about one training, with units and bounds; the rules between settings come last.

Frozen, standard-library dataclasses: they cost nothing to import and pickle to any worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from trainers.constraints import FORBID_EXTRA, Range, check


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, and how the training set is split. The test split is no part of it: see `retrain`."""

    __pydantic_config__ = FORBID_EXTRA

    name: Literal["shapes", "cifar10", "cifar100"] = "cifar10"
    """`shapes` is built in (drawn on first use, no download)."""
    root: str = "data"
    """Folder that holds `cifar-10-batches-py` or `cifar-100-python`; `~` is expanded."""
    download: bool = False
    """Fetch missing CIFAR files through torchvision (MD5-checked)."""
    validation_fraction: Annotated[float, Range(gt=0, lt=1)] = 0.1
    """Share of the training set held out, stratified by class."""
    split_seed: Annotated[int, Range(ge=0)] = 0
    """Seed of the split; the same for all trials of a study."""
    train_limit: Annotated[int, Range(ge=1)] | None = None
    """At most this many training images, stratified; None for all. For studies on small machines."""
    validation_limit: Annotated[int, Range(ge=1)] | None = None
    """At most this many validation images, stratified; None for all."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Any timm classifier."""

    __pydantic_config__ = FORBID_EXTRA

    name: str = "tf_efficientnetv2_s.in21k_ft_in1k"
    """timm model name, with or without a pretrained tag."""
    pretrained: bool | str = True
    """True: timm's weights; False: random initialisation; a path: a safetensors or state-dict file."""
    drop_path: Annotated[float, Range(ge=0, lt=1)] = 0.0
    """Stochastic depth rate of the last block."""
    bn_momentum: Annotated[float, Range(gt=0, le=1)] | None = None
    """Share of each batch in the running batch-norm statistics; null: the model's own. The `tf_` models' 0.01 is
    made for long trainings; in a short one validation runs on statistics of the first steps."""


@dataclass(frozen=True, kw_only=True)
class SizeRamp:
    """Image size in pixels, first and last stage."""

    __pydantic_config__ = FORBID_EXTRA

    start: Annotated[int, Range(ge=16, le=1024)] = 128
    """First stage, pixels."""
    end: Annotated[int, Range(ge=16, le=1024)] = 300
    """Last stage, pixels."""


@dataclass(frozen=True, kw_only=True)
class MagnitudeRamp:
    """RandAugment magnitude, canonical scale (0 to 10; above 10 extrapolates, as the paper's 15 to 25 do)."""

    __pydantic_config__ = FORBID_EXTRA

    start: Annotated[float, Range(ge=0, le=30)] = 5.0
    """First stage."""
    end: Annotated[float, Range(ge=0, le=30)] = 15.0
    """Last stage."""


@dataclass(frozen=True, kw_only=True)
class RateRamp:
    """A probability-like strength (dropout rate or mixup alpha), first and last stage."""

    __pydantic_config__ = FORBID_EXTRA

    start: Annotated[float, Range(ge=0, lt=1)] = 0.0
    """First stage."""
    end: Annotated[float, Range(ge=0, lt=1)] = 0.0
    """Last stage."""


@dataclass(frozen=True, kw_only=True)
class Progressive:
    """Progressive learning: image size and regularisation grow together (arXiv 2104.00298, section 4).

    `paper` (Algorithm 1): stage i of M has start + (end - start) * i / (M - 1).
    `google` (google/automl's code): size int(start + (end - start) * (i + 1) / M), RandAugment and mixup
    linspace(start, end, M), dropout constant at its end value.
    One stage trains at the end values throughout.
    """

    __pydantic_config__ = FORBID_EXTRA

    form: Literal["paper", "google"] = "paper"
    """Which of the two formulas."""
    stages: Annotated[int, Range(ge=1, le=16)] = 4
    """Number of stages M, each an equal share of the epochs."""
    size: SizeRamp = field(default_factory=SizeRamp)
    """Training image size."""
    sizes: tuple[Annotated[int, Range(ge=16, le=1024)], ...] | None = None
    """Explicit image size of every stage instead of `size`; as many as `stages`, never shrinking."""
    randaugment: MagnitudeRamp = field(default_factory=MagnitudeRamp)
    """RandAugment magnitude."""
    dropout: RateRamp = field(default_factory=lambda: RateRamp(start=0.1, end=0.3))
    """Dropout rate before the classifier."""
    mixup: RateRamp = field(default_factory=RateRamp)
    """Mixup alpha; 0 is off."""
    grow_batch: bool = False
    """Enlarge the batch of stages with smaller images to the pixels of the last stage's batch (lr scaled
    by the square root of the ratio for Adam-like optimisers, linearly for SGD and RMSprop)."""
    reset_batchnorm: bool = False
    """Re-estimate batch-norm statistics on training images after the image size changed."""


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Augmentation apart from the ramped RandAugment and mixup. All of it runs on the device, per image."""

    __pydantic_config__ = FORBID_EXTRA

    flip: bool = True
    """Random horizontal flip."""
    crop: Literal["none", "pad", "resized"] = "pad"
    """`pad`: reflect-pad by an eighth and crop; `resized`: RandomResizedCrop."""
    crop_scale: Annotated[float, Range(gt=0, le=1)] = 0.08
    """Least area share of `crop: resized`."""
    randaugment_layers: Annotated[int, Range(ge=0, le=8)] = 2
    """Operations per image (N of RandAugment); 0 switches it off."""
    cutout: Annotated[float, Range(ge=0, lt=1)] = 0.0
    """Side of the erased square as a share of the image's side; 0 is off."""
    erase: Annotated[float, Range(ge=0, le=1)] = 0.0
    """Probability of random erasing."""
    cutmix: Annotated[float, Range(ge=0, le=10)] = 0.0
    """CutMix alpha; 0 is off. With mixup too, each image draws one of the two."""


@dataclass(frozen=True, kw_only=True)
class Ema:
    """Exponential moving average of the weights."""

    __pydantic_config__ = FORBID_EXTRA

    decay: Annotated[float, Range(ge=0, lt=1)] = 0.0
    """0 is off. With warm-up the decay at step t is min(decay, (1 + t) / (10 + t))."""
    warmup: bool = True
    """Start with a small decay, so that early averages forget the initial weights."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything about the training itself. Schedules always span `epochs`, whatever prunes the trial."""

    __pydantic_config__ = FORBID_EXTRA

    epochs: Annotated[int, Range(ge=1)] = 50
    """The horizon: full-length training."""
    batch_size: Annotated[int, Range(ge=1)] | Literal["auto"] = 128
    """Images per optimiser step and device; `auto`: the largest that fits the last stage's memory. `lr` is for 128
    images then, and scaled to those found as `grow_batch` scales it."""
    accumulate: Annotated[int, Range(ge=1)] = 1
    """Micro-batches summed per optimiser step."""
    optimizer: Literal["adamw", "sgd", "rmsprop", "lamb", "muon"] = "adamw"
    """timm's optimisers of these names."""
    lr: Annotated[float, Range(gt=0)] = 1e-3
    """Peak learning rate."""
    min_lr_ratio: Annotated[float, Range(ge=0, le=1)] = 0.01
    """Final over peak learning rate of the cosine schedule."""
    schedule: Literal["cosine", "onecycle", "constant"] = "cosine"
    """How the learning rate falls over all of `epochs`, after the warm-up."""
    warmup_epochs: Annotated[float, Range(ge=0)] = 0.0
    """Epochs of linear warm-up, less than `epochs`."""
    weight_decay: Annotated[float, Range(ge=0)] = 0.05
    """Never applied to norms and biases."""
    momentum: Annotated[float, Range(ge=0, lt=1)] = 0.9
    """SGD and RMSprop; the first beta of the others."""
    layer_decay: Annotated[float, Range(gt=0, le=1)] = 1.0
    """Learning-rate factor per layer group from the head down; 1 is off."""
    freeze_blocks: Annotated[int, Range(ge=0)] = 0
    """The stem and this many first stages of the model are not trained."""
    clip_grad: Annotated[float, Range(ge=0)] = 1.0
    """Greatest norm of the gradient; 0 is off."""
    label_smoothing: Annotated[float, Range(ge=0, lt=1)] = 0.1
    """Probability mass spread over the other classes."""
    ema: Ema = field(default_factory=Ema)
    """Averaged weights."""
    score: Literal["auto", "raw", "ema"] = "auto"
    """Which weights `val_accuracy` is measured on; both are reported when EMA is on. `auto`: the averaged ones then,
    which tell good from bad earlier."""
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    """`auto`: bf16 autocast on CUDA where supported, fp32 on the CPU. fp16: a step whose gradients
    overflow is skipped; rmsprop, lamb and muon take it with gradients of 0."""
    channels_last: bool = True
    """Memory layout of images and convolutions; faster on tensor cores and CPUs."""
    compile: bool = False
    """torch.compile, one graph per image size."""
    cuda_graphs: bool = False
    """Record forward and backward once per image size and start them as one, on CUDA: for small networks and images on
    a fast GPU, where starting kernels takes longer than running them. Takes more memory; no effect on the CPU."""
    eval_size: Annotated[int, Range(ge=16, le=1024)] | None = None
    """Fixed image size of every evaluation; None: the last stage's. A study that searches the last stage's size sets
    it to the largest, so that all of its trials are scored alike."""
    compute_size: Annotated[int, Range(ge=16, le=1024)] | None = None
    """Image size whose epoch is the unit of the reported compute; None: the last stage's. A study that searches the
    last stage's size sets it to the largest, so that all of its trials count alike."""
    eval_batch_size: Annotated[int, Range(ge=1)] = 256
    """Images per evaluation step."""
    checkpoint_every: Annotated[int, Range(ge=1)] = 1
    """Epochs between checkpoints; the last epoch is always saved."""
    augment: Augment = field(default_factory=Augment)
    """Augmentation apart from the ramps."""
    progressive: Progressive = field(default_factory=Progressive)
    """Image size and regularisation by stage."""


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """One fully resolved training: what a trial runs, what an export holds and what `retrain` repeats."""

    __pydantic_config__ = FORBID_EXTRA

    data: DataConfig = field(default_factory=DataConfig)
    """Which images, and how they are split."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The training settings."""
    extra: dict[str, bool | int | float | str] = field(default_factory=dict)
    """Free settings of a trainer of your own; the shipped trainer takes none."""

    def __post_init__(self) -> None:
        problems = check(self) or list(cross_checks(self))
        if problems:
            raise ValueError("; ".join(f"{path}: {rule}" for path, rule in problems))


def cross_checks(config: TrialConfig) -> Iterator[tuple[str, str]]:
    """Rules between fields, as (dotted path, what is wrong)."""
    progressive = config.train.progressive
    if progressive.sizes is not None:
        if len(progressive.sizes) != progressive.stages:
            yield (
                "train.progressive.sizes",
                f"{len(progressive.sizes)} sizes for {progressive.stages} stages; give one per stage",
            )
        if any(b < a for a, b in zip(progressive.sizes, progressive.sizes[1:], strict=False)):
            yield "train.progressive.sizes", f"image sizes shrink between stages: {list(progressive.sizes)}"
    elif progressive.stages > 1 and progressive.size.start > progressive.size.end:
        yield (
            "train.progressive.size",
            f"image sizes shrink between stages: start {progressive.size.start} > end {progressive.size.end}",
        )
    if progressive.stages > config.train.epochs:
        yield (
            "train.progressive.stages",
            f"{progressive.stages} stages need as many epochs, train.epochs is {config.train.epochs}",
        )
    if config.train.warmup_epochs >= config.train.epochs:
        yield (
            "train.warmup_epochs",
            f"warm-up of {config.train.warmup_epochs:g} epochs leaves nothing of {config.train.epochs}",
        )
    if config.train.score == "ema" and config.train.ema.decay == 0:
        yield "train.score", "ema is asked for, but train.ema.decay is 0 (off)"
    if config.train.cuda_graphs and config.train.compile:
        yield "train.cuda_graphs", "does not go with train.compile; choose one"
    if config.train.cuda_graphs and config.train.batch_size == "auto":
        yield "train.cuda_graphs", "needs a number as train.batch_size: auto does not know the graphs' memory"
