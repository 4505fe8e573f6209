"""The installed timm takes the exported settings: the functions that its training script calls with its arguments."""

from __future__ import annotations

import os
import runpy
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import timm
import torch
from timm.data import Mixup, create_transform, resolve_data_config
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import create_scheduler_v2, scheduler_kwargs

from hpo.export.timm import timm_settings, timm_yaml
from hpo.spec.training import Training
from tests.support.training import TINY
from trainers.api import Augment, DataConfig, ModelConfig, TrainConfig, TrialConfig
from trainers.schedule import lr_factor

CONFIG = TrialConfig(
    data=DataConfig(name="cifar10"),
    model=ModelConfig(name="test_efficientnet", pretrained=False, drop_path=0.2, bn_momentum=0.2),
    train=TrainConfig(
        epochs=6, warmup_epochs=2, lr=3e-3, weight_decay=0.02, momentum=0.8, augment=Augment(crop="resized", erase=0.2)
    ),
)


def arguments(config: TrialConfig = CONFIG) -> Namespace:
    return Namespace(**timm_settings(Training.of(config)))


def model(settings: Namespace) -> torch.nn.Module:
    return timm.create_model(
        settings.model,
        pretrained=settings.pretrained,
        num_classes=settings.num_classes,
        drop_rate=settings.drop,
        drop_path_rate=settings.drop_path,
        bn_momentum=getattr(settings, "bn_momentum", None),
    )


def test_timms_model_takes_the_exported_settings() -> None:
    net = model(arguments())
    assert net.num_classes == 10
    assert net.drop_rate == pytest.approx(0.3)
    moments = {layer.momentum for layer in net.modules() if isinstance(layer, torch.nn.BatchNorm2d)}
    assert moments == {0.2}
    data = resolve_data_config(vars(arguments()), model=net)
    assert data["input_size"] == (3, 300, 300)
    assert (data["interpolation"], data["crop_pct"]) == ("bilinear", 1.0)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop", "lamb", "muon"])
def test_timms_optimizer_takes_the_exported_settings(optimizer: str) -> None:
    config = TrialConfig(model=CONFIG.model, train=TrainConfig(optimizer=optimizer, momentum=0.85, weight_decay=0.03))
    settings = arguments(config)
    created = create_optimizer_v2(model(settings), **optimizer_kwargs(settings))
    decayed = max(created.param_groups, key=lambda group: group["weight_decay"])
    assert decayed["weight_decay"] == 0.03
    assert decayed["lr"] == 1e-3
    assert 0.85 in (decayed.get("momentum"), *decayed.get("betas", ()))


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.9, False), (0.0, True)])
def test_timms_sgd_has_the_momentum_of_hpo(momentum: float, nesterov: bool) -> None:
    train = TrainConfig(optimizer="sgd", momentum=momentum, nesterov=nesterov)
    settings = arguments(TrialConfig(model=CONFIG.model, train=train))
    group = create_optimizer_v2(model(settings), **optimizer_kwargs(settings)).param_groups[0]
    assert (group["momentum"], group["nesterov"]) == (momentum, bool(nesterov and momentum))


def test_timm_gets_no_drop_path_for_a_model_that_has_none() -> None:
    settings = timm_settings(Training.of(TrialConfig(model=ModelConfig(name="resnet10t", pretrained=False))))
    assert settings["drop_path"] == 0
    settings = timm_settings(Training.of(TrialConfig(model=ModelConfig(name="repvit_m1", pretrained=False))))
    assert settings["drop_path"] is None


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize("warmup", [0, 2])
def test_the_learning_rate_of_timm_is_that_of_hpo_at_every_step(schedule: str, warmup: int) -> None:
    config = TrialConfig(
        model=CONFIG.model, train=TrainConfig(epochs=6, warmup_epochs=warmup, lr=3e-3, schedule=schedule)
    )
    settings = arguments(config)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=settings.lr)
    scheduler, epochs = create_scheduler_v2(optimizer, **scheduler_kwargs(settings), updates_per_epoch=10)
    assert epochs == 6
    for update in range(60):
        scheduler.step_update(update)
        expected = 3e-3 * lr_factor(config.train, update / 10)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=1e-6), update


def test_timms_augmentation_takes_the_exported_settings() -> None:
    settings = arguments()
    transform = create_transform(
        64,
        is_training=True,
        scale=settings.scale,
        ratio=settings.ratio,
        hflip=settings.hflip,
        color_jitter=settings.color_jitter,
        auto_augment=settings.aa,
        interpolation=settings.train_interpolation,
        re_prob=settings.reprob,
        re_mode=settings.remode,
    )
    shown = str(transform)
    assert "RandAugment(n=2" in shown
    assert "p=1.0, m=15, mstd=0.5, mmax=30" in shown
    assert "scale=(0.08, 1.0)" in shown
    assert "ColorJitter" not in shown
    assert "RandomErasing(p=0.2, mode=const" in shown


def test_timms_mixup_takes_the_exported_settings() -> None:
    settings = arguments(TINY)
    mixer = Mixup(
        settings.mixup, settings.cutmix, None, settings.mixup_prob, settings.mixup_switch_prob, settings.mixup_mode,
        label_smoothing=settings.smoothing, num_classes=settings.num_classes,
    )  # fmt: skip
    _, targets = mixer(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 2, 3]))
    assert targets.shape == (4, 10)
    assert mixer.mixup_alpha == pytest.approx(0.3)


def test_timms_script_knows_every_exported_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Needs timm's repository: HPO_TEST_TIMM_TRAIN names its train.py."""
    script = os.environ.get("HPO_TEST_TIMM_TRAIN")
    if not script:
        pytest.skip("HPO_TEST_TIMM_TRAIN does not name the train.py of timm's repository")
    file = tmp_path / "best.yaml"
    file.write_text(timm_yaml(Training.of(CONFIG)))
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", str(file)])
    script_globals = runpy.run_path(script, run_name="timm_train")
    accepted = {action.dest for action in script_globals["parser"]._actions}
    assert timm_settings(Training.of(CONFIG)).keys() <= accepted
    script_globals["_parse_args"]()
