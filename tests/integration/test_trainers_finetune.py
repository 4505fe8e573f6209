"""The shipped trainer on real parts: resumable to the bit, leaving no trace, refusing in words."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import math
import resource
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.training import TINY, context
from trainers import data, finetune, rng
from trainers.api import (
    Augment,
    CheckpointError,
    Diverged,
    Ema,
    EpochMetrics,
    OutOfMemory,
    TrainConfig,
    TrainerError,
    TrialConfig,
)
from trainers.checkpoint import DirectoryStore
from trainers.loop.engine import Engine
from trainers.loop.saving import CheckpointWriter
from trainers.network import model as models
from trainers.numerics import numerics_of


def changed(config: TrialConfig = TINY, /, **train: Any) -> TrialConfig:
    return replace(config, train=replace(config.train, **train))


def run(config: TrialConfig, cache: str, folder: Path, *, epochs: int = 99, seed: int = 0) -> list[EpochMetrics]:
    """At most `epochs` items, then the generator is closed as an orchestrator's would be."""
    stream = finetune.train(config, context(cache, folder, seed))
    items = []
    for metrics in stream:
        items.append(metrics)
        if len(items) == epochs:
            break
    stream.close()
    return items


def weights(folder: Path) -> dict[str, torch.Tensor]:
    loaded = DirectoryStore(str(folder)).load()
    assert loaded is not None
    return loaded[1]


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def comparable(metrics: EpochMetrics) -> dict[str, Any]:
    timed = ("seconds", "train_seconds", "eval_seconds", "images_per_second", "checkpoint")
    return {name: value for name, value in dataclasses.asdict(metrics).items() if name not in timed}


@pytest.fixture(scope="module")
def whole(cache: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[EpochMetrics]]:
    """An uninterrupted training, in the state of a new worker."""
    models._kept.clear()
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(TINY, cache, folder)


def test_the_trainer_reports_every_epoch_with_its_stage(whole: tuple) -> None:
    _, items = whole
    assert [(m.epoch, m.stage, m.image_size, m.batch_size) for m in items] == [
        (1, 0, 32, 40),
        (2, 0, 32, 40),
        (3, 1, 48, 40),
        (4, 1, 48, 40),
    ]
    assert [(m.randaugment, m.dropout, m.mixup) for m in items[1:3]] == [(3, 0.1, 0.1), (6, 0.3, 0.3)]
    assert items[-1].compute == pytest.approx(2 * (32 / 48) ** 2 + 2)
    assert items[-1].learning_rate == pytest.approx(TINY.train.lr * TINY.train.min_lr_ratio)
    for metrics in items:
        assert metrics.val_accuracy == metrics.val_accuracy_ema
        assert metrics.checkpoint
        assert metrics.train_seconds + metrics.eval_seconds < metrics.seconds
        assert metrics.images_per_second == pytest.approx(160 / metrics.train_seconds)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_an_interrupted_training_continues_to_the_same_weights(
    whole: tuple, cut: int, cache: str, tmp_path: Path
) -> None:
    folder, items = whole
    first = run(TINY, cache, tmp_path, epochs=cut)
    second = run(TINY, cache, tmp_path)
    assert comparable(second[0]) == comparable(first[-1])
    assert second[0].checkpoint == first[-1].checkpoint
    assert [comparable(m) for m in first + second[1:]] == [comparable(m) for m in items]
    assert_equal(weights(tmp_path), weights(folder))


def test_a_second_trial_on_a_worker_equals_the_trial_on_a_new_worker(whole: tuple, cache: str, tmp_path: Path) -> None:
    folder, _ = whole
    other = changed(freeze_blocks=1, optimizer="sgd", lr=0.1, ema=Ema(), score="raw")
    run(other, cache, tmp_path / "other", epochs=1, seed=5)
    run(TINY, cache, tmp_path / "again")
    assert_equal(weights(tmp_path / "again"), weights(folder))


def test_another_seed_trains_other_weights(whole: tuple, cache: str, tmp_path: Path) -> None:
    run(TINY, cache, tmp_path, seed=1)
    assert not torch.equal(weights(tmp_path)["model.conv_stem.weight"], weights(whole[0])["model.conv_stem.weight"])


def test_training_changes_no_global_state(cache: str, tmp_path: Path) -> None:
    torch.manual_seed(11)
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    stream = finetune.train(TINY, replace(context(cache, tmp_path), threads=2 if threads == 1 else 1))
    next(stream)
    assert torch.get_num_threads() == threads
    next(stream)
    stream.close()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.backends.cudnn.benchmark is False


def test_a_checkpoint_of_another_configuration_is_refused(cache: str, tmp_path: Path) -> None:
    run(TINY, cache, tmp_path, epochs=1)
    with pytest.raises(CheckpointError, match="another configuration or seed"):
        run(changed(lr=1e-3), cache, tmp_path)
    with pytest.raises(CheckpointError, match="another configuration or seed"):
        run(TINY, cache, tmp_path, seed=1)


def test_the_folder_of_the_data_does_not_change_the_identity_of_a_checkpoint() -> None:
    moved = replace(TINY, data=replace(TINY.data, root="/elsewhere", download=True))
    assert finetune.identity(moved, 0) == finetune.identity(TINY, 0)
    assert finetune.identity(TINY, 0) != finetune.identity(TINY, 0, part="train+validation")


def test_checkpoints_stay_valid_when_an_upgrade_adds_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it is at its default; whatever else differs makes another configuration, however deep it lies."""
    options: dict[str, Any] = {"frozen": True, "kw_only": True}
    new = ("novelty", float, dataclasses.field(default=0.5))
    newer_train: Any = dataclasses.make_dataclass("NewTrain", [new], bases=(TrainConfig,), **options)
    train = ("train", newer_train, dataclasses.field(default_factory=newer_train))
    newer: Any = dataclasses.make_dataclass("NewTrial", [train], bases=(TrialConfig,), **options)
    before = finetune.identity(TINY, 0)
    ramp = replace(TINY.train.progressive, dropout=replace(TINY.train.progressive.dropout, end=0.2))
    others = {finetune.identity(changed(progressive=ramp), 0), finetune.identity(changed(clip_grad=0.0), 0)}
    assert len(others | {before}) == 3

    monkeypatch.setattr(finetune, "TrialConfig", newer)
    settings = {field.name: getattr(TINY.train, field.name) for field in dataclasses.fields(TINY.train)}
    upgraded = newer(data=TINY.data, model=TINY.model, train=newer_train(**settings))
    assert finetune.identity(upgraded, 0) == before
    assert finetune.identity(replace(upgraded, train=replace(upgraded.train, novelty=1.0)), 0) != before


def test_checkpoints_are_saved_at_the_configured_interval_and_at_the_end(cache: str, tmp_path: Path) -> None:
    items = run(changed(checkpoint_every=3), cache, tmp_path)
    assert [metrics.checkpoint is not None for metrics in items] == [False, False, True, True]
    assert DirectoryStore(str(tmp_path)).epochs() == [3, 4]


def test_a_diverging_training_ends_with_a_reason(cache: str, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="loss became"):
        run(changed(lr=1e30, clip_grad=0.0, optimizer="sgd", warmup_epochs=0.0), cache, tmp_path)
    assert DirectoryStore(str(tmp_path)).epochs() == []


def test_an_out_of_memory_error_names_stage_size_and_batch(cache: str, tmp_path: Path) -> None:
    sizes = replace(TINY.train.progressive, stages=1, sizes=(1024,))
    config = changed(progressive=sizes, batch_size=160, epochs=1, warmup_epochs=0.0)
    run(changed(epochs=2, ema=Ema(), score="raw"), cache, tmp_path / "warm", epochs=1)  # lazy libraries are loaded
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**29, hard))
    try:
        with pytest.raises(OutOfMemory, match=r"training stage 0 at 1024 px with batches of 160"):
            run(config, cache, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop", "lamb", "muon"])
def test_every_optimizer_resumes_to_the_same_weights(optimizer: str, cache: str, tmp_path: Path) -> None:
    progressive = replace(TINY.train.progressive, stages=1, sizes=(32,))
    config = changed(
        optimizer=optimizer, epochs=2, lr=1e-3, layer_decay=0.8, progressive=progressive, schedule="onecycle"
    )
    config = replace(config, data=replace(config.data, train_limit=80, validation_limit=20))
    run(config, cache, tmp_path / "whole")
    run(config, cache, tmp_path / "cut", epochs=1)
    run(config, cache, tmp_path / "cut")
    assert_equal(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


def test_a_half_precision_training_resumes_with_its_scaler(cache: str, tmp_path: Path) -> None:
    config = changed(precision="fp16", epochs=2, progressive=replace(TINY.train.progressive, stages=1, sizes=(32,)))
    config = replace(config, data=replace(config.data, train_limit=40, validation_limit=20))
    run(config, cache, tmp_path / "whole")
    run(config, cache, tmp_path / "cut", epochs=1)
    run(config, cache, tmp_path / "cut")
    assert_equal(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


@pytest.mark.parametrize("score", ["auto", "raw"])
def test_the_weights_that_do_not_count_are_evaluated_at_the_end_of_each_stage(
    score: str, cache: str, tmp_path: Path
) -> None:
    items = run(changed(score=score), cache, tmp_path / "once")
    always = [metrics.val_accuracy_raw if score == "raw" else metrics.val_accuracy_ema for metrics in items]
    other = [metrics.val_accuracy_ema if score == "raw" else metrics.val_accuracy_raw for metrics in items]
    assert always == [metrics.val_accuracy for metrics in items]
    assert [accuracy is not None for accuracy in other] == [False, True, False, True]
    where = context(cache, tmp_path / "both")
    both = list(finetune.train(changed(score=score), where, score_both=True))
    assert all(metrics.val_accuracy_raw is not None and metrics.val_accuracy_ema is not None for metrics in both)
    assert [metrics.val_accuracy for metrics in both] == always


def test_checkpoints_written_during_the_training_equal_those_that_it_waits_for(
    whole: tuple, cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU; the report of an epoch names a checkpoint only when it is complete."""
    folder, items = whole
    monkeypatch.setattr(
        finetune, "checkpoint_writer", lambda where: CheckpointWriter(where.checkpoints, overlapped=True)
    )
    reported = []
    for metrics in finetune.train(TINY, context(cache, tmp_path)):
        written = {hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.glob("*.json")}
        assert metrics.checkpoint is None or metrics.checkpoint in written
        reported.append(comparable(metrics))
    assert reported == [comparable(metrics) for metrics in items]
    assert metrics.checkpoint is not None
    assert_equal(weights(tmp_path), weights(folder))
    cut = tmp_path / "cut"
    run(TINY, cache, cut, epochs=2)
    assert DirectoryStore(str(cut)).epochs()[-1] == 2, "closing the training waits for its checkpoint"
    assert [comparable(metrics) for metrics in run(TINY, cache, cut)] == reported[1:]
    assert_equal(weights(cut), weights(folder))


def test_micro_batches_give_the_same_weights_as_the_whole_batch(cache: str, tmp_path: Path) -> None:
    """Without batch norm's coupling and any chance, three parts of 40 images are one batch of 40."""
    plain = replace(
        changed(
            epochs=1,
            warmup_epochs=0.0,
            ema=Ema(),
            score="raw",
            optimizer="sgd",
            label_smoothing=0.0,
            augment=Augment(flip=False, crop="none", randaugment_layers=0),
            progressive=replace(
                TINY.train.progressive,
                stages=1,
                sizes=(32,),
                dropout=replace(TINY.train.progressive.dropout, start=0, end=0),
                mixup=replace(TINY.train.progressive.mixup, start=0, end=0),
            ),
        ),
        model=replace(TINY.model, name="test_efficientnet_ln", drop_path=0.0),
    )
    run(plain, cache, tmp_path / "one")
    run(changed(plain, accumulate=3), cache, tmp_path / "three")
    whole, thirds = weights(tmp_path / "one"), weights(tmp_path / "three")
    for name in whole:
        torch.testing.assert_close(thirds[name], whole[name], rtol=1e-4, atol=1e-5)


def test_batches_grow_and_statistics_are_reset_between_stages(cache: str, tmp_path: Path) -> None:
    progressive = replace(TINY.train.progressive, grow_batch=True, reset_batchnorm=True)
    items = run(changed(progressive=progressive), cache, tmp_path / "whole")
    assert [m.batch_size for m in items] == [90, 90, 40, 40]
    ratio = math.sqrt(90 / 40)
    plain = run(TINY, cache, tmp_path / "plain", epochs=3)
    assert items[1].learning_rate == pytest.approx(plain[1].learning_rate * ratio)
    assert items[2].learning_rate == pytest.approx(plain[2].learning_rate)
    run(changed(progressive=progressive), cache, tmp_path / "cut", epochs=2)
    run(changed(progressive=progressive), cache, tmp_path / "cut")
    assert_equal(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


def test_frozen_blocks_keep_weights_and_statistics(cache: str, tmp_path: Path) -> None:
    config = changed(freeze_blocks=2, weight_decay=0.5)
    start = models.build(config.model, 10, seed=0, device="cpu", channels_last=True).net.state_dict()
    start = {name: value.clone() for name, value in start.items()}
    run(config, cache, tmp_path, epochs=1)
    after = {name.removeprefix("model."): value for name, value in weights(tmp_path).items() if name[:2] == "mo"}
    moved = {name for name in start if not torch.equal(start[name], after[name])}
    still = {name for name in start if name not in moved}
    assert {name for name in start if name.startswith(("conv_stem", "bn1", "blocks.0", "blocks.1"))} <= still
    assert {name for name in start if name.startswith(("blocks.2", "classifier"))} <= moved


def test_freezing_all_stages_is_refused(cache: str, tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"train\.freeze_blocks.*the most is"):
        run(changed(freeze_blocks=50), cache, tmp_path)


def test_images_augmented_together_are_all_trained_once(
    cache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU does: several micro-batches augmented at once, then stepped one by one."""
    config = changed(accumulate=3, batch_size=32, ema=Ema(), score="raw")
    numerics = numerics_of(config.train, "cpu")
    images, _ = data.train_and_validation(config.data, cache, "cpu")
    engine = Engine(config, context(cache, tmp_path), numerics, images)
    stage, positions = engine.plan[0], images.indices[:96]
    seen: list[torch.Tensor] = []
    augmented = engine.batches.augmented
    monkeypatch.setattr(engine.batches, "augmented", lambda now, *rest: (seen.append(now), augmented(now, *rest))[1])
    engine.batches.pixels_at_once = 50 * stage.size**2
    parts = list(engine.batches.parts(positions, 32, stage, rng.generator(0)))
    assert [len(pixels) for pixels, _ in parts] == [11, 11, 10] * 3
    assert [len(targets) for _, targets in parts] == [11, 11, 10] * 3
    assert [len(positions) for positions in seen] == [32, 32, 32], "whole batches, whatever their parts are"
    assert torch.equal(torch.cat(seen), positions)
    assert all(pixels.is_contiguous(memory_format=torch.channels_last) for pixels, _ in parts)
    assert run(config, cache, tmp_path / "whole")[-1].epoch == config.train.epochs


def test_a_finished_training_frees_its_memory_at_once(cache: str, tmp_path: Path) -> None:
    """It does not wait for Python to collect cycles, because the next trial needs the memory."""
    gc.collect()
    gc.disable()
    try:
        numerics = numerics_of(TINY.train, "cpu")
        images, _ = data.train_and_validation(TINY.data, cache, "cpu")
        engine = Engine(TINY, context(cache, tmp_path), numerics, images)
        engine.run_epoch(1)
        first = next(iter(engine.step.optimizer.state.values()))["exp_avg"]
        gone = [weakref.ref(engine), weakref.ref(first), weakref.ref(engine.average)]
        del first
        engine.close()
        assert gone[1]() is None
        assert gone[2]() is None
        del engine
        assert gone[0]() is None
    finally:
        gc.enable()


def test_the_learning_rate_of_automatic_batches_refers_to_128_images(cache: str, tmp_path: Path) -> None:
    """The batch follows from the device, so the learning rate follows the batch."""
    progressive = replace(TINY.train.progressive, stages=1, sizes=(32,))
    config = changed(batch_size="auto", accumulate=1, progressive=progressive, schedule="constant", warmup_epochs=0.0)
    numerics = numerics_of(config.train, "cpu")
    images, _ = data.train_and_validation(config.data, cache, "cpu")
    engine = Engine(config, context(cache, tmp_path), numerics, images)
    for batch, expected in ((128, 1.0), (32, 0.5)):
        engine.batch_size = batch
        assert engine.run_epoch(1).learning_rate == pytest.approx(expected * config.train.lr)
