"""Optimisers, averages, statistics, batch sizes and scores, each against arithmetic done by hand."""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from tests.support.training import TINY, context
from trainers.api import Context, Ema, OutOfMemory, TrainConfig
from trainers.augment import prepare
from trainers.data import Images
from trainers.loop import auto_batch, optimizers
from trainers.loop.engine import Engine, class_weights
from trainers.loop.evaluate import evaluate
from trainers.network import batchnorm
from trainers.network.ema import WeightAverage
from trainers.network.model import Dropout, Model
from trainers.network.weight_fit import classifier_names
from trainers.numerics import KERNEL_SEARCH_PASSES, memory_errors, numerics_of, search_kernels, session

OPTIMIZERS = ["adamw", "sgd", "rmsprop", "lamb", "muon"]


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return timm.create_model("test_efficientnet", num_classes=10)


@pytest.mark.parametrize("layer_decay", [1.0, 0.7])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_norms_and_biases_get_no_weight_decay(name: str, layer_decay: float, net: nn.Module) -> None:
    train = TrainConfig(optimizer=name, weight_decay=0.3, layer_decay=layer_decay)
    optimizer = optimizers.create(train, net)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in net.parameters()} == decays.keys()
    for parameter in net.parameters():
        assert decays[id(parameter)] == (0.3 if parameter.ndim > 1 else 0.0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_lowers_a_loss(name: str, momentum: float) -> None:
    net = timm.create_model("test_efficientnet", num_classes=10)
    train = TrainConfig(optimizer=name, momentum=momentum, lr=2e-3, weight_decay=0.0)
    optimizer = optimizers.create(train, net)
    images, labels = torch.randn(8, 3, 32, 32), torch.arange(8)
    losses = []
    for _ in range(8):
        loss = F.cross_entropy(net(images), labels)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]


def test_with_layer_decay_layers_far_from_the_head_learn_slower(net: nn.Module) -> None:
    optimizer = optimizers.create(TrainConfig(layer_decay=0.5), net)
    optimizers.set_lr(optimizer, 0.8)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(net.classifier.weight)] == 0.8
    assert rates[id(net.conv_head.weight)] <= 0.8
    assert rates[id(net.conv_stem.weight)] < rates[id(net.blocks[2][0].conv_exp.weight)] < 0.8


def test_the_optimizer_leaves_out_frozen_parameters(net: nn.Module) -> None:
    net.conv_stem.weight.requires_grad_(False)
    try:
        optimizer = optimizers.create(TrainConfig(), net)
    finally:
        net.conv_stem.weight.requires_grad_(True)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert id(net.conv_stem.weight) not in held


def test_muon_leaves_vectors_and_the_classifier_to_adamw(net: nn.Module) -> None:
    optimizer = optimizers.create(TrainConfig(optimizer="muon"), net)
    fallback = {id(p) for group in optimizer.param_groups for p in group["params"] if group.get("use_fallback")}
    assert {id(p) for name, p in net.named_parameters() if name in classifier_names(net)} <= fallback
    assert id(net.conv_head.weight) not in fallback


def test_only_clip_grad_clips() -> None:
    moves = []
    for scale in (1.0, 1000.0):
        layer = nn.Linear(4, 4)
        with torch.no_grad():
            layer.weight.fill_(1.0)
            layer.bias.fill_(1.0)
        optimizer = optimizers.create(TrainConfig(optimizer="lamb", lr=0.1, weight_decay=0.0), layer)
        for parameter in layer.parameters():
            parameter.grad = torch.full_like(parameter, scale)
        optimizer.step()
        moves.append(optimizer.state[layer.weight]["exp_avg"].clone())
    torch.testing.assert_close(moves[1], 1000 * moves[0])


@pytest.mark.parametrize(
    ("momentum", "nesterov", "applied"),
    [(0.8, True, True), (0.8, False, False), (0.0, True, False), (0.0, False, False)],
)
def test_sgd_has_nesterovs_or_classical_momentum_or_none(momentum: float, nesterov: bool, applied: bool) -> None:
    layer = nn.Linear(1, 1, bias=False)
    train = TrainConfig(optimizer="sgd", momentum=momentum, nesterov=nesterov, lr=0.1, weight_decay=0.0)
    optimizer = optimizers.create(train, layer)
    assert (optimizer.param_groups[0]["momentum"], optimizer.param_groups[0]["nesterov"]) == (momentum, applied)
    expected, velocity = layer.weight.item(), 0.0
    for gradient in (1.0, 3.0):
        layer.weight.grad = torch.full_like(layer.weight, gradient)
        optimizer.step()
        velocity = momentum * velocity + gradient
        expected -= 0.1 * (gradient + momentum * velocity if applied else velocity)
    assert layer.weight.item() == pytest.approx(expected)


def test_adamw_takes_momentum_as_beta(net: nn.Module) -> None:
    adamw = optimizers.create(TrainConfig(optimizer="adamw", momentum=0.8), net).param_groups[0]
    assert adamw["betas"] == (0.8, 0.999)


# ------------------------------------------------------------------------------------------------ averages


def test_the_weight_average_warms_up_and_then_decays() -> None:
    net = nn.Linear(1, 1, bias=False)
    average = WeightAverage(Ema(decay=0.25), net)
    expected = start = net.weight.item()
    for step in range(6):
        with torch.no_grad():
            net.weight.fill_(step + 1.0)
        average.update()
        decay = min(0.25, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * (step + 1.0)
        assert average.state()["weight"].item() == pytest.approx(expected)
    assert expected != start


def test_the_weight_average_is_applied_in_place_and_removed_again() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = WeightAverage(Ema(decay=0.5, warmup=False), net)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        net[0].weight.add_(2.0)
        net[1].running_mean.add_(4.0)
    average.update()
    pointer = net[0].weight.data_ptr()
    with average.applied():
        assert net[0].weight.data_ptr() == pointer
        torch.testing.assert_close(net[0].weight.data, before["0.weight"] + 1.0)
        torch.testing.assert_close(net[1].running_mean, before["1.running_mean"] + 2.0)
    torch.testing.assert_close(net[0].weight.data, before["0.weight"] + 2.0)
    torch.testing.assert_close(average.state()["0.weight"], before["0.weight"] + 1.0)


# -------------------------------------------------------------------------------------- batch statistics


def test_reestimated_statistics_are_the_plain_average_over_the_batches() -> None:
    layer, frozen = nn.BatchNorm2d(3), nn.BatchNorm2d(3).eval()
    net = nn.Sequential(layer, frozen)
    net(torch.randn(8, 3, 4, 4) * 9 + 5)
    frozen.eval()
    kept = frozen.running_mean.clone()
    batches = [torch.randn(8, 3, 4, 4) + shift for shift in (0.0, 1.0, 5.0)]
    changed = batchnorm.reestimate(net, lambda batch: net(batch), batches)
    expected = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    torch.testing.assert_close(layer.running_mean, expected)
    assert torch.equal(frozen.running_mean, kept)
    assert layer.momentum == 0.1
    assert changed == ["0.running_mean", "0.running_var"]


def test_an_automatic_batch_fills_the_free_memory() -> None:
    fixed, each = 1000, 50
    first, second = (fixed + each * count for count in auto_batch.PROBES)
    assert auto_batch.fitting(first, second, fixed + each * 100) == 96
    assert auto_batch.fitting(first, second, fixed) == 8
    assert auto_batch.fitting(first, second, 10**9) == auto_batch.LARGEST
    assert (
        auto_batch.largest(lambda count: None, device="cpu", share=1.0, reserve=0, accumulate=2) == auto_batch.CPU_BATCH
    )


# -------------------------------------------------------------------------------------------- evaluation


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 4)
        self.batches: list[int] = []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(pixels))
        return self.head(pixels.mean((2, 3)))


@pytest.mark.parametrize("batch_size", [1, 7, 16, 33, 50])
def test_evaluation_counts_every_image_once_in_batches_of_one_shape(batch_size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 4, (60,), generator=generator)
    part = Images(images, labels, torch.randperm(60, generator=generator)[:33], ("a", "b", "c", "d"))
    net = Linear()
    model = Model(net=net, mean=(0.5,) * 3, std=(0.25,) * 3, dropout=Dropout(torch.device("cpu")))
    numerics = numerics_of(TrainConfig(), "cpu")
    score = evaluate(model, part, size=12, batch_size=batch_size, numerics=numerics)
    assert len(set(net.batches)) == 1
    assert sum(net.batches) < 33 + len(net.batches)
    with torch.inference_mode():
        logits = net(prepare(images[part.indices], size=12, mean=model.mean, std=model.std))
    assert score.accuracy == pytest.approx((logits.argmax(1) == labels[part.indices]).float().mean().item())
    assert score.loss == pytest.approx(F.cross_entropy(logits, labels[part.indices]).item(), rel=1e-5)


def test_means_over_the_classes_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import balanced_accuracy_score, f1_score

    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (40, 3, 8, 8), dtype=torch.uint8, generator=generator)
    labels = (torch.rand(40, generator=generator) ** 3 * 3).long()  # many of the first class, none of the last
    part = Images(images, labels, torch.arange(40), ("a", "b", "c", "d"))
    net = Linear()
    model = Model(net=net, mean=(0.5,) * 3, std=(0.25,) * 3, dropout=Dropout(torch.device("cpu")))
    score = evaluate(model, part, size=8, batch_size=16, numerics=numerics_of(TrainConfig(), "cpu"))
    with torch.inference_mode():
        guesses = net(prepare(images, size=8, mean=model.mean, std=model.std)).argmax(1)
    assert score.by_class is not None
    assert score.by_class["val_balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, guesses))
    assert score.by_class["val_macro_f1"] == pytest.approx(f1_score(labels, guesses, average="macro"))


def test_balanced_weights_of_classes_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = torch.tensor([0] * 12 + [1] * 3 + [2] * 5)
    images = Images(torch.empty(20, 3, 8, 8, dtype=torch.uint8), labels, torch.arange(20), ("a", "b", "c", "never"))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    assert class_weights(images).tolist() == pytest.approx([*expected, 0.0])
    assert class_weights(images)[labels].mean().item() == pytest.approx(1)


def test_the_loss_weighs_the_classes_as_asked(tmp_path: Path) -> None:
    losses = {}
    labels = torch.tensor([0] * 30 + [1] * 2)
    images = Images(torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8), labels, torch.arange(32), ("a", "b"))
    for weights in ("none", "balanced"):
        config = replace(TINY, data=replace(TINY.data, class_weights=weights))
        engine = Engine(config, context(str(tmp_path), tmp_path), numerics_of(config.train, "cpu"), images)
        pixels, targets = torch.zeros(2, 3, 16, 16), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        engine.model.net.eval()
        losses[weights] = [engine.step.add_gradient(pixels[:1], target[None], 1.0).item() for target in targets]
    assert losses["balanced"] == pytest.approx([losses["none"][0] * 32 / 60, losses["none"][1] * 8])


# ------------------------------------------------------------------------------------------------ runtime


@pytest.mark.parametrize("name", ["rmsprop", "lamb", "muon"])
@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_an_overflowed_step_changes_nothing_though_the_optimiser_cannot_skip_it(name: str, bad: float) -> None:
    net = timm.create_model("test_efficientnet", num_classes=10)
    optimizer = optimizers.create(TrainConfig(optimizer=name, weight_decay=0.0), net)
    assert not optimizers.skips_overflow(optimizer)
    before = [parameter.detach().clone() for parameter in net.parameters()]
    for overflows in (True, False):
        for parameter in net.parameters():
            parameter.grad = torch.ones_like(parameter)
        if overflows:
            next(net.parameters()).grad.view(-1)[1] = bad
        optimizers.zero_overflow(optimizer)
        optimizer.step()
        same = [torch.equal(now, then) for now, then in zip(net.parameters(), before, strict=True)]
        assert all(same) if overflows else not same[0]


def test_torchs_fused_optimisers_skip_an_overflowed_step_themselves() -> None:
    for name in ("adamw", "sgd"):
        assert optimizers.skips_overflow(optimizers.create(TrainConfig(optimizer=name), nn.Linear(2, 2)))


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_a_context_or_library_that_gets_no_memory_counts_as_out_of_memory(text: str) -> None:
    guarded = memory_errors("training stage 2")
    with pytest.raises(OutOfMemory, match="device memory while training stage 2") as caught, guarded:
        raise RuntimeError(text)
    assert "asynchronously" not in str(caught.value)


def test_memory_errors_say_what_the_program_was_doing() -> None:
    failures = (torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB\nmore"), MemoryError())
    for failure in failures:
        with pytest.raises(OutOfMemory, match="memory while training stage 2"), memory_errors("training stage 2"):
            raise failure
    with pytest.raises(OutOfMemory, match="training stage 2"), memory_errors("training stage 2"):
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(RuntimeError, match="shape"), memory_errors("training stage 2"):
        torch.zeros(3).view(2)


def test_a_memory_error_keeps_no_memory_of_the_failed_step() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def step() -> None:
        activations = torch.zeros(8)
        alive.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(OutOfMemory) as caught, memory_errors("training stage 2"):
        step()
    assert caught.value is not None
    assert alive[0]() is None


def test_cudnn_tries_its_kernels_only_for_long_stages() -> None:
    seen = []
    for steps in (KERNEL_SEARCH_PASSES - 1, KERNEL_SEARCH_PASSES):
        with search_kernels(steps):
            seen.append(torch.backends.cudnn.benchmark)
    assert [*seen, torch.backends.cudnn.benchmark] == [False, True, False]


def test_torchs_settings_are_restored_even_after_an_error() -> None:
    store = object()
    context = Context(seed=0, checkpoints=store, threads=torch.get_num_threads() + 1)  # type: ignore[arg-type]
    numerics = numerics_of(replace(TrainConfig(), precision="tf32"), "cpu")

    def settings() -> tuple[object, ...]:
        backends = torch.backends
        return (
            torch.get_num_threads(),
            backends.cuda.matmul.fp32_precision,
            backends.cudnn.conv.fp32_precision,
            backends.cudnn.benchmark,
        )

    before = settings()
    seen: list[tuple[object, ...]] = []

    def fail() -> None:
        seen.append(settings())
        raise KeyError

    with pytest.raises(KeyError), session(context, numerics):
        fail()
    assert seen == [(before[0] + 1, "tf32", "tf32", False)]
    assert settings() == before


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_torchs_older_settings_of_the_precision_can_be_read_within_a_training(precision: Any) -> None:
    """A network or a library may ask for them; after a part of the newer ones is set, torch refuses to answer."""
    context = Context(seed=0, checkpoints=object())  # type: ignore[arg-type]
    with session(context, numerics_of(TrainConfig(precision=precision), "cpu")):
        allowed = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        with torch.backends.cudnn.flags(enabled=False):
            pass
        assert torch.get_float32_matmul_precision() == ("high" if precision == "tf32" else "highest")
    assert allowed == (precision == "tf32",) * 2
    assert torch.backends.cudnn.allow_tf32 is True


def test_precisions_resolve_to_data_types_and_scaling() -> None:
    assert numerics_of(TrainConfig(), "cpu").autocast_dtype is None
    assert numerics_of(TrainConfig(precision="bf16"), "cpu").autocast_dtype is torch.bfloat16
    half = numerics_of(TrainConfig(precision="fp16"), "cpu")
    assert half.scaled
    with half.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float16


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """torch fills new tensors without values with NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_first_step_that_overflows_leaves_nothing_to_the_second(name: str) -> None:
    """torch made SGD's momentum in the first step, without values, also if that step was skipped."""
    results = []
    for overflows in (1, 0):
        net = nn.Linear(2, 1, bias=False)
        nn.init.ones_(net.weight)
        optimizer = optimizers.create(TrainConfig(optimizer=name, lr=0.1, weight_decay=0.0), net)
        scaler = torch.amp.GradScaler("cpu")
        for gradient in [math.inf] * overflows + [1.0, 1.0]:
            optimizer.zero_grad()
            scaler.scale((net.weight * gradient).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
        results.append(net.weight.detach())
    torch.testing.assert_close(*results)
