"""Initial weights come from the configured source or cause an error; a reused model equals a new one."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file

from trainers.api import ModelConfig, WeightsError
from trainers.network import architecture, model_size, weight_fit, weights
from trainers.network import model as models

TINY = ModelConfig(name="test_efficientnet", pretrained=False)


def build(config: ModelConfig = TINY, *, classes: int = 10, seed: int = 0) -> models.Model:
    return models.build(config, classes, seed=seed, device="cpu", channels_last=True)


def state(model: models.Model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.net.state_dict().items()}


def differing(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> list[str]:
    assert a.keys() == b.keys()
    return [name for name in a if not torch.equal(a[name], b[name])]


@pytest.fixture(scope="module")
def trained() -> dict[str, torch.Tensor]:
    """Weights of another life, with a classifier of 1000 classes."""
    torch.manual_seed(1)
    net = timm.create_model("test_efficientnet")
    return {name: value.add(0.25) if value.is_floating_point() else value for name, value in net.state_dict().items()}


# ------------------------------------------------------------------------------------------- warm reuse


def spoil(model: models.Model) -> None:
    """What a trial does to a model."""
    models.freeze(model, 1)
    model.dropout.set(0.5)
    model.train()
    model.net(torch.randn(4, 3, 32, 32)).sum().backward()
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.add_(torch.randn_like(parameter))


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_reused_model_starts_with_the_same_weights_as_on_a_new_worker(
    pretrained: bool, trained: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    save_file(trained, tmp_path / "w.safetensors")
    config = replace(TINY, pretrained=str(tmp_path / "w.safetensors") if pretrained else False)
    models._kept.clear()
    fresh = build(config, seed=4)
    first = state(fresh)
    spoil(fresh)
    build(config, seed=5)
    warm = build(config, seed=4)
    assert warm is fresh
    assert differing(first, state(warm)) == []
    assert all(parameter.requires_grad and parameter.grad is None for parameter in warm.net.parameters())
    assert warm.dropout.rate.item() == 0
    assert warm.frozen == []


def test_initial_weights_depend_on_the_seed_only() -> None:
    torch.manual_seed(1)
    first = state(build(seed=1))
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    again = state(build(seed=1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert differing(first, again) == []
    assert "conv_stem.weight" in differing(first, state(build(seed=2)))
    assert "classifier.weight" in differing(first, state(build(seed=2)))


def test_a_new_process_builds_the_same_initial_weights() -> None:
    code = (
        "import hashlib, torch; from trainers.network import model; from trainers.api import ModelConfig;"
        "m = model.build(ModelConfig(name='test_efficientnet', pretrained=False), 10, seed=9, device='cpu',"
        " channels_last=True);"
        "print(sum(v.double().abs().sum().item() for v in m.net.state_dict().values()).hex())"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ).stdout
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    build(seed=3)
    total = sum(value.double().abs().sum().item() for value in build(seed=9).net.state_dict().values())
    torch.set_num_threads(threads)
    assert printed.strip() == total.hex()


def test_a_process_keeps_only_a_few_architectures() -> None:
    for classes in range(2, 8):
        build(classes=classes)
    assert len(models._kept) == models.KEPT


def test_a_new_classifier_starts_at_the_loss_of_guessing() -> None:
    logits = build().net.eval()(torch.randn(16, 3, 64, 64))
    assert logits.std().item() < 0.5


# ------------------------------------------------------------------------------------------------ dropout


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_vit", "test_convnext"])
def test_dropout_works_on_any_classifier(name: str) -> None:
    size = 160 if name == "test_vit" else 64
    model = build(replace(TINY, name=name))
    (classifier,) = weight_fit.classifiers(model.net)
    given: list[torch.Tensor] = []
    kept: list[torch.Tensor] = []
    handles = [
        classifier.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]), prepend=True),
        classifier.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0])),
    ]
    images = torch.randn(64, 3, size, size)
    with torch.no_grad():
        model.net.eval()
        model.dropout.set(0.4)
        model.net(images[:2])
        model.net.train()
        model.net(images)
    for handle in handles:
        handle.remove()
    assert torch.equal(given[0], kept[0])
    lost = (kept[1] == 0)[given[1] != 0].float().mean().item()
    assert lost == pytest.approx(0.4, abs=0.05)


def test_dropout_keeps_the_mean_and_can_be_switched_off() -> None:
    dropout = models.Dropout(torch.device("cpu"))
    ones = torch.ones(100, 1000)
    module = torch.nn.Identity()
    assert torch.equal(dropout(module, (ones,))[0], ones)
    dropout.set(0.3)
    assert dropout(module, (ones,))[0].mean().item() == pytest.approx(1, abs=0.01)
    assert torch.equal(dropout(module.eval(), (ones,))[0], ones)


# ---------------------------------------------------------------------------------------------- pretrained


@pytest.mark.parametrize("form", ["safetensors", "pth", "checkpoint", "parallel"])
def test_weights_are_read_from_files(form: str, trained: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / f"weights.{'safetensors' if form == 'safetensors' else 'pth'}"
    if form == "safetensors":
        save_file(trained, path)
    else:
        prefixed = {f"module.{name}": value for name, value in trained.items()}
        torch.save({"pth": trained, "checkpoint": {"state_dict": trained}, "parallel": prefixed}[form], path)
    ours = state(build(replace(TINY, pretrained=str(path))))
    assert differing(ours, {**trained, **{name: ours[name] for name in ours if name.startswith("classifier")}}) == []
    assert ours["classifier.weight"].shape[0] == 10
    whole = state(build(replace(TINY, pretrained=str(path)), classes=1000))
    assert differing(whole, trained) == []


def test_a_file_of_another_architecture_does_not_fit(tmp_path: Path) -> None:
    save_file({"stem.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"does not fit EfficientNet: .*missing.*conv_stem.*unknown.*stem\.weight"):
        build(replace(TINY, pretrained=str(tmp_path / "w.safetensors")))


def test_an_error_about_a_missing_weights_file_names_it(tmp_path: Path) -> None:
    config = replace(TINY, pretrained=str(tmp_path / "none.safetensors"))
    for call in (lambda: weights.check(config), lambda: build(config)):
        with pytest.raises(WeightsError, match=r"there is no file .*none\.safetensors"):
            call()


def test_a_hostile_or_damaged_weights_file_is_refused_and_never_executed(tmp_path: Path) -> None:
    trace = tmp_path / "executed"

    class Hostile:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {trace}",)

    torch.save({"conv_stem.weight": Hostile()}, tmp_path / "hostile.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Hostile(), protocol=2))
    (tmp_path / "damaged.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    for name in ("hostile.pth", "plain.pth", "damaged.safetensors"):
        with pytest.raises(WeightsError, match=f"{name} is neither an intact"):
            build(replace(TINY, pretrained=str(tmp_path / name)))
    assert not trace.exists()


def test_an_error_about_an_unknown_model_gives_similar_names() -> None:
    config = replace(TINY, name="tf_efficientnet_v2_s")
    for call in (lambda: weights.check(config), lambda: build(config)):
        with pytest.raises(WeightsError, match=r"no model 'tf_efficientnet_v2_s'; did you mean .*tf_efficientnetv2_s"):
            call()


@pytest.fixture
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty hub cache, and a hub at an address that no resolver knows."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    weights._timm_state.cache_clear()
    return folder


def test_the_error_without_a_network_names_three_remedies(empty_hub: Path) -> None:
    config = ModelConfig(name="tf_efficientnetv2_b0.in1k")
    for call in (lambda: weights.check(config), lambda: build(config)):
        with pytest.raises(WeightsError) as caught:
            call()
        for words in (
            "hub.invalid cannot be reached",
            "huggingface",
            "model.pretrained=PATH",
            "model.pretrained=false",
        ):
            assert words in str(caught.value)


def test_cached_weights_need_no_network(empty_hub: Path, trained: dict[str, torch.Tensor]) -> None:
    repository = empty_hub / "models--timm--test_efficientnet.r160_in1k"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    save_file(trained, snapshot / "model.safetensors")
    config = ModelConfig(name="test_efficientnet.r160_in1k")
    weights.check(config)
    model = build(config)
    assert torch.equal(model.net.state_dict()["conv_stem.weight"], trained["conv_stem.weight"])
    assert model.mean == (0.485, 0.456, 0.406)


def test_images_are_normalised_as_the_weights_were_trained() -> None:
    with torch.device("meta"):
        net = architecture.create(ModelConfig(name="tf_efficientnetv2_s.in21k_ft_in1k", pretrained=False), 10)
        model = models._wrap(net, "meta", channels_last=False)
    assert (model.mean, model.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_the_error_for_a_model_without_published_weights_says_so(empty_hub: Path) -> None:
    with pytest.raises(WeightsError, match="no pretrained weights for efficientnetv2_xl"):
        weights.check(ModelConfig(name="efficientnetv2_xl"))


# ------------------------------------------------------------------------------------------------- family

FAMILY = [
    *(f"tf_efficientnetv2_{size}" for size in ("s", "m", "l", "xl", "b0", "b1", "b2", "b3")),
    *(f"efficientnetv2_{size}" for size in ("s", "m", "l", "xl", "rw_t", "rw_s", "rw_m")),
]


@pytest.mark.parametrize("name", FAMILY)
def test_every_efficientnetv2_can_be_built_and_frozen(name: str) -> None:
    """On the meta device: every shape, no memory."""
    with torch.device("meta"):
        net = architecture.create(ModelConfig(name=name, pretrained=False, drop_path=0.2), 100)
        model = models._wrap(net, "meta", channels_last=False)
        models.freeze(model, 2)
        logits = model.net.eval()(torch.zeros(2, 3, 64, 64))
    assert logits.shape == (2, 100)
    trained_share = [parameter.requires_grad for parameter in net.parameters()]
    assert trained_share[0] is False
    assert trained_share[-1] is True
    assert model.frozen


LITERATURE = [
    "densenet121",
    "efficientnet_b0",
    "regnety_016",
    "resnest50d",
    "efficientnetv2_rw_t",
    "tf_efficientnetv2_b0",
]


@pytest.mark.parametrize("name", LITERATURE)
def test_models_from_the_literature_can_be_trained(name: str) -> None:
    model = build(ModelConfig(name=name, pretrained=False))
    models.freeze(model, 1)
    model.dropout.set(0.2)
    model.train()
    before = state(model)
    optimizer = torch.optim.SGD([parameter for parameter in model.net.parameters() if parameter.requires_grad], lr=0.1)
    logits = model.net(torch.randn(2, 3, 64, 64))
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 9])).backward()
    optimizer.step()
    moved = differing(before, state(model))
    head = sorted(weight_fit.classifier_names(model.net))
    assert set(head) <= set(moved)
    assert next(iter(before)) not in moved


# ------------------------------------------------------------------------------------------------- size


@pytest.mark.parametrize(
    ("name", "pixels", "millions", "giga"),
    [
        ("resnet18", 224, 11.69, 1.82),  # He et al. (arXiv 1512.03385), table 1: 1.8 x 10^9
        ("tf_efficientnetv2_b0", 224, 7.14, 0.73),  # timm's results: 7.14 M, 0.73 GMACs
        ("pit_ti_224", 224, 4.85, 0.7),  # PiT (arXiv 2103.16302): 4.9 M, 0.7 G
        ("vit_tiny_patch16_224", 224, 5.72, 1.26),  # DeiT-Ti (arXiv 2012.12877): 5 M, 1.3 x 10^9 with attention
    ],
)
def test_parameters_and_operations_of_models_equal_the_published_numbers(
    name: str, pixels: int, millions: float, giga: float
) -> None:
    model = build(ModelConfig(name=name, pretrained=False), classes=1000)
    assert model_size.parameters(model) == pytest.approx(millions * 1e6, rel=0.001)
    assert model_size.macs(model, pixels) == pytest.approx(giga * 1e9, rel=0.05)


def test_counting_operations_changes_no_weights_and_depends_on_the_image_size() -> None:
    model = build()
    before = state(model)
    torch.manual_seed(3)
    chance = torch.get_rng_state()
    small, large = model_size.macs(model, 32), model_size.macs(model, 64)
    assert large == pytest.approx(4 * small, rel=0.02)
    assert not differing(before, state(model))
    assert torch.equal(chance, torch.get_rng_state())
    assert build() is model
    assert model_size.macs(model, 32) == small
