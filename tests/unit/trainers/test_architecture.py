"""A setting of 0 means 0 for every family of timm, and models of a fixed size take the sizes of the training."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import DropPath
from torch import nn

from trainers import retrain
from trainers.api import ModelConfig, Progressive, SizeRamp, TrainConfig, WeightsError
from trainers.network import architecture, weight_fit, weights
from trainers.network import model as models
from trainers.network.feasibility import network_problems

VIT = ModelConfig(name="vit_tiny_patch16_224", pretrained=False)
STAGES = TrainConfig(epochs=2, progressive=Progressive(stages=2, size=SizeRamp(start=64, end=96)))
ONE_STAGE = replace(STAGES, progressive=replace(STAGES.progressive, stages=1))


def build(config: ModelConfig, *sizes: int) -> models.Model:
    return models.build(config, 10, seed=0, device="cpu", channels_last=True, sizes=sizes)


def on_meta(name: str, drop_path: float) -> nn.Module:
    with torch.device("meta"):
        return architecture.create(ModelConfig(name=name, drop_path=drop_path), 10)


def rates(net: nn.Module) -> list[float]:
    return [float(module.drop_prob) for module in net.modules() if isinstance(module, DropPath)]


OWN_DROP_PATH = [
    "focalnet_tiny_srf",
    "nest_tiny",
    "nextvit_small",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "tf_efficientnetv2_b0",
]


@pytest.mark.parametrize("name", OWN_DROP_PATH)
def test_a_drop_path_of_0_is_0_whatever_the_models_own_rate(name: str) -> None:
    assert not any(rates(on_meta(name, 0.0)))
    assert max(rates(on_meta(name, 0.3))) == pytest.approx(0.3, abs=0.1)


@pytest.mark.parametrize("name", ["ghostnet_050", "repghostnet_050", "rexnet_100", "legacy_seresnet18"])
def test_a_models_own_dropout_before_its_classifier_is_off(name: str) -> None:
    net = on_meta(name, 0.0)
    assert net.drop_rate == 0
    assert not any(module.p for module in net.modules() if isinstance(module, nn.Dropout))


def test_a_model_without_stochastic_depth_is_built_and_refuses_a_rate() -> None:
    assert rates(on_meta("vgg11", 0.0)) == []
    with pytest.raises(WeightsError, match=r"model\.drop_path: vgg11 has no stochastic depth"):
        on_meta("vgg11", 0.1)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_a_transformer_of_a_fixed_size_takes_the_size_of_every_stage(name: str) -> None:
    net = build(replace(VIT, name=name), 64, 96).net.eval()
    with torch.inference_mode():
        assert [net(torch.zeros(1, 3, size, size)).shape for size in (64, 96)] == [(1, 10), (1, 10)]


def test_a_model_that_takes_one_size_is_created_for_it() -> None:
    assert architecture.size_options("beit_base_patch16_224", frozenset({96})) == {"img_size": 96}
    assert architecture.size_options("beit_base_patch16_224", frozenset({224})) == {}
    assert architecture.size_options("tf_efficientnetv2_s", frozenset({64, 96})) == {}


def test_position_embeddings_of_a_file_are_resampled_to_the_sizes_of_the_training(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = timm.create_model(VIT.name)
    save_file(source.state_dict(), tmp_path / "vit.safetensors")
    config = replace(VIT, pretrained=str(tmp_path / "vit.safetensors"))
    weights.check(config)
    own = build(config, 64, 96).net.state_dict()
    resampled = timm.create_model(VIT.name, img_size=96, dynamic_img_size=True)
    filtered = weight_fit.timm_filter(VIT.name)(source.state_dict(), resampled)  # type: ignore[misc]
    assert own["pos_embed"].shape == (1, 1 + 6 * 6, 192)
    assert torch.equal(own["pos_embed"], filtered["pos_embed"])
    assert torch.equal(own["blocks.0.attn.qkv.weight"], source.state_dict()["blocks.0.attn.qkv.weight"])


def test_timms_own_weights_are_resampled_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    source = timm.create_model(VIT.name)
    save_file(source.state_dict(), tmp_path / "vit.safetensors")
    monkeypatch.setattr(weights, "_cached_file", lambda name: tmp_path / "vit.safetensors")
    weights._timm_state.cache_clear()
    own = build(replace(VIT, pretrained=True), 64, 96).net.state_dict()
    weights._timm_state.cache_clear()
    assert own["pos_embed"].shape == (1, 1 + 6 * 6, 192)
    assert torch.equal(own["blocks.0.attn.qkv.weight"], source.state_dict()["blocks.0.attn.qkv.weight"])


def test_timm_loads_a_finished_model_with_the_size_of_its_training(tmp_path: Path) -> None:
    model = build(VIT, 64, 96)
    result = retrain.RetrainResult(0.5, 1.0, 1, 1.0, 8, 8, 1.0, weights=tmp_path / "model.safetensors")
    retrain._write(result, model, 96, tuple("abcdefghij"), [])
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), model.net.eval()(images))


REFUSED = [
    ("vgg11", STAGES, {"drop_path": 0.1}, "model.drop_path", "vgg11 has no stochastic depth"),
    ("vgg11", STAGES, {"bn_momentum": 0.1}, "model.bn_momentum", "vgg11 has no batch normalisation"),
    ("beit_base_patch16_224", STAGES, {}, "model.name", "takes images of one size in a training"),
    (VIT.name, replace(STAGES, eval_size=77), {}, "model.name", "images of 77 px .*divisible by patch size"),
    ("hrnet_w18_small", replace(STAGES, eval_size=80), {}, "model.name", "cannot compute images of 80 px"),
    ("inception_v3", STAGES, {}, "model.name", "cannot compute images of 64 px"),
    ("qwen3_vit_88m_enc", ONE_STAGE, {}, "model.name", "is no classifier"),
    ("test_vit", replace(STAGES, freeze_blocks=99), {}, "train.freeze_blocks", "the most is"),
]


@pytest.mark.parametrize(("name", "train", "changes", "path", "rule"), REFUSED)
def test_what_a_network_refuses_is_found_without_memory_for_it(
    name: str, train: TrainConfig, changes: dict[str, float], path: str, rule: str
) -> None:
    ((found, text),) = network_problems(ModelConfig(name=name, **changes), train)  # type: ignore[arg-type]
    assert found == path
    assert re.search(rule, text), text


@pytest.mark.parametrize(
    ("name", "train"), [(VIT.name, STAGES), ("beit_base_patch16_224", ONE_STAGE), ("tf_efficientnetv2_b0", STAGES)]
)
def test_a_network_that_can_be_trained_has_no_problem(name: str, train: TrainConfig) -> None:
    assert list(network_problems(ModelConfig(name=name, drop_path=0.1), replace(train, layer_decay=0.7))) == []
