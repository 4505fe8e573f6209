"""`model.pretrained` names a file: what timm can load is loaded, and every other file is refused by what it is."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save, save_file
from torch import nn

from trainers.api import ModelConfig, WeightsError
from trainers.network import architecture, catalogue, weights
from trainers.network import model as models

TINY = ModelConfig(name="test_efficientnet", pretrained=False)
State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def tensors() -> State:
    """Weights of another life, with a classifier of 1000 classes."""
    torch.manual_seed(1)
    return dict(timm.create_model(TINY.name).state_dict())


def loaded(path: Path, name: str = TINY.name) -> State:
    config = ModelConfig(name=name, pretrained=str(path))
    weights.check(config)
    return weights.pretrained_state(config, architecture.create(config, 10))


def refusal(path: Path) -> str:
    """What a person reads before any training."""
    with pytest.raises(WeightsError) as caught:
        weights.check(replace(TINY, pretrained=str(path)))
    assert str(path) in str(caught.value)
    assert "weights_only" not in str(caught.value)
    return str(caught.value)


def assert_backbone(found: State, expected: State) -> None:
    backbone = {name for name in expected if not name.startswith("classifier")}
    assert set(found) == backbone
    assert all(torch.equal(found[name], expected[name]) for name in backbone)


@pytest.mark.parametrize("prefix", ["model.", "module.", "_orig_mod.module.", "net.backbone."])
def test_a_prefix_before_every_name_is_taken_off(prefix: str, tensors: State, tmp_path: Path) -> None:
    prefixed = {prefix + name: value for name, value in tensors.items()}
    torch.save(prefixed, tmp_path / "w.pth")
    save_file(prefixed, tmp_path / "w.safetensors")
    for file in ("w.pth", "w.safetensors"):
        assert_backbone(loaded(tmp_path / file), tensors)


@pytest.mark.parametrize("prefix", ["model.", "module."])
@pytest.mark.parametrize("name", ["resnet10t", "resnet18"])
def test_a_prefix_is_taken_off_where_inner_blocks_repeat_the_first_name(name: str, prefix: str, tmp_path: Path) -> None:
    """A ResNet begins with `conv1.weight`, and so does each of its blocks."""
    model = timm.create_model(name, pretrained=False, num_classes=2)
    save_file({prefix + key: value for key, value in model.state_dict().items()}, tmp_path / "w.safetensors")
    config = ModelConfig(name=name, pretrained=str(tmp_path / "w.safetensors"))
    found = weights.pretrained_state(config, model)
    heads = {key for key in model.state_dict() if key.startswith("fc.")}
    assert found.keys() - heads == model.state_dict().keys() - heads
    assert all(torch.equal(found[key], model.state_dict()[key]) for key in found)


@pytest.mark.parametrize("name", ["vgg11", "repvit_m1"])
def test_a_model_without_stochastic_depth_refuses_it_by_name(name: str) -> None:
    with pytest.raises(WeightsError, match=f"{name} has no stochastic depth; set model.drop_path to 0"):
        architecture.create(ModelConfig(name=name, pretrained=False, drop_path=0.1), 2)


def test_what_a_wrapper_keeps_beside_the_model_is_left_out(tensors: State, tmp_path: Path) -> None:
    saved = {f"model.{name}": value for name, value in tensors.items()} | {"loss.weight": torch.ones(10)}
    torch.save({"epoch": 3, "state_dict": saved}, tmp_path / "lightning.ckpt")
    assert_backbone(loaded(tmp_path / "lightning.ckpt"), tensors)


def test_missing_counters_of_batch_norm_are_zero(tensors: State, tmp_path: Path) -> None:
    converted = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    assert len(converted) < len(tensors)
    save_file(converted, tmp_path / "w.safetensors")
    assert_backbone(loaded(tmp_path / "w.safetensors"), tensors)


def test_names_of_the_first_publication_are_read_as_timm_reads_them(tmp_path: Path) -> None:
    """ConvNeXt as its authors published it."""
    name = "test_convnext"
    expected = timm.create_model(name).state_dict()
    renamed = {
        "stem.": "downsample_layers.0.",
        ".conv_dw": ".dwconv",
        ".mlp.fc1": ".pwconv1",
        ".mlp.fc2": ".pwconv2",
        "head.fc.": "head.",
        "head.norm.": "norm.",
    }
    published = {}
    for ours, value in expected.items():
        theirs = ours
        for index in range(4):
            theirs = theirs.replace(f"stages.{index}.blocks.", f"stages.{index}.")
            theirs = theirs.replace(f"stages.{index}.downsample.", f"downsample_layers.{index}.")
        for new, old in renamed.items():
            theirs = theirs.replace(new, old)
        published[theirs] = value.clone()
    assert "norm.weight" in published
    assert not published.keys() & expected.keys() - {key for key in expected if "gamma" in key or ".norm." in key}
    torch.save({"model": published}, tmp_path / "published.pth")
    found = loaded(tmp_path / "published.pth", name)
    assert set(found) == {key for key in expected if not key.startswith("head.fc")}
    assert all(torch.equal(found[key], expected[key]) for key in found)


def test_the_content_counts_and_not_the_name_of_the_file(tensors: State, tmp_path: Path) -> None:
    (tmp_path / "safetensors.bin").write_bytes(save(tensors))
    torch.save(tensors, tmp_path / "pickle.safetensors")
    for file in ("safetensors.bin", "pickle.safetensors"):
        assert_backbone(loaded(tmp_path / file), tensors)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is empty", "download it again"]),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", ["Git LFS pointer", "git lfs pull"]),
        (b"\n<!DOCTYPE html>\n<html>", ["HTML", "/resolve/"]),
        (b"\x89HDF\r\n\x1a\n0000", ["HDF5", "convert"]),
        (b"\x1f\x8b\x08000", ["gzip", "unpack"]),
        (b"\x80\x02]q\x00", ["truncated", "download it again"]),
        (b"\x80\x04\x95" + b"\x8c" * 600, ["pickle that torch.save did not write", "model.state_dict()"]),
        (b"\x08\x07\x12\x07pytorch" + b"\x1a" * 600, ["ONNX model", "convert"]),
        (b"GGUF\x03\0\0\0\0\0\0\0", ["GGUF", "convert"]),
        (b"w.pth".ljust(257, b"\0") + b"ustar\0", ["tar archive", "unpack"]),
        (b"BZh91AY", ["bzip2", "unpack"]),
        (b"7z\xbc\xaf\x27\x1c", ["7z archive", "unpack"]),
        (b"\x28\xb5\x2f\xfd\0\0", ["zstd archive", "unpack"]),
        (b'{"metadata": {}, "weight_map": {}}', ["index of weights in several files", "one safetensors file"]),
        (b'{"error": "Repository not found"}', ["text that begins with", "Repository not found", "download it again"]),
        (b"random bytes", ["neither an intact safetensors file", "download it again"]),
    ],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_file_of_another_kind_is_named(content: bytes, words: list[str], suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(content)
    text = refusal(path)
    assert all(word in text for word in words), text


def test_a_zip_archive_that_torch_did_not_write_is_told_from_a_truncated_state_dict(
    tensors: State, tmp_path: Path
) -> None:
    torch.save(tensors, tmp_path / "inner.pth")
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.write(tmp_path / "inner.pth", "inner.pth")
    assert "is a zip archive of inner.pth, not weights of PyTorch; unpack it" in refusal(tmp_path / "w.zip")
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.ones(1, 2),)), tmp_path / "w.pt2")
    assert "is a program of torch.export, not a state dict" in refusal(tmp_path / "w.pt2")
    whole = (tmp_path / "w.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2] + b"PK\5\6" + b"\xff" * 18)
    assert "truncated" in refusal(tmp_path / "cut.zip")


def test_one_of_several_files_of_weights_is_named(tensors: State, tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "model-00002-of-00003.safetensors")
    assert "is part 2 of 3 of the weights" in refusal(tmp_path / "model-00002-of-00003.safetensors")
    save_file(tensors, tmp_path / "model-00001-of-00001.safetensors")
    assert_backbone(loaded(tmp_path / "model-00001-of-00001.safetensors"), tensors)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda value: value.to("meta"), "without values"),
        (lambda value: value.to_sparse(), "is sparse"),
        (lambda value: value.to(torch.complex64), "of complex numbers"),
        (lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8), "is quantized"),
        (
            lambda value: value.to(torch.int8),
            "1 of whole numbers, e.g. bn1.weight; it seems to hold quantized weights, ",
        ),
    ],
)
def test_a_tensor_without_plain_real_values_is_refused(change: Any, words: str, tensors: State, tmp_path: Path) -> None:
    torch.save({**tensors, "bn1.weight": change(tensors["bn1.weight"])}, tmp_path / "w.pth")
    text = refusal(tmp_path / "w.pth")
    assert words in text
    assert "bn1.weight" in text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn])
def test_weights_of_another_precision_become_those_of_the_model(
    dtype: torch.dtype, tensors: State, tmp_path: Path
) -> None:
    stored = {name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors.items()}
    save_file(stored, tmp_path / "w.safetensors")
    net = models.build(
        replace(TINY, pretrained=str(tmp_path / "w.safetensors")), 10, seed=0, device="cpu", channels_last=False
    ).net.state_dict()
    assert net["conv_stem.weight"].dtype == torch.float32
    assert torch.equal(net["conv_stem.weight"], stored["conv_stem.weight"].float())


@pytest.mark.parametrize("begin", [b"\x80", b"PK", b"\x1f\x8b", b"BZh", b"\x08\x07\x12"])
def test_a_header_whose_length_looks_like_another_kind_is_read(begin: bytes, tensors: State, tmp_path: Path) -> None:
    header, rest = (whole := save(tensors))[8:], int.from_bytes(whole[:8], "little")
    length = int.from_bytes(begin, "little")
    while length < rest:
        length += 256 ** len(begin)
    padded = header[:rest] + b" " * (length - rest) + header[rest:]
    (tmp_path / "w.bin").write_bytes(length.to_bytes(8, "little") + padded)
    assert_backbone(loaded(tmp_path / "w.bin"), tensors)


def test_the_counter_of_averaged_weights_is_left_out(tensors: State, tmp_path: Path) -> None:
    """torch.optim.swa_utils.AveragedModel stores it beside the model."""
    torch.save(
        {"n_averaged": torch.tensor(3), **{f"module.{name}": value for name, value in tensors.items()}},
        tmp_path / "averaged.pth",
    )
    assert_backbone(loaded(tmp_path / "averaged.pth"), tensors)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_file_is_told_at_every_length(legacy: bool, tmp_path: Path) -> None:
    torch.save({"a": torch.ones(50)}, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    save_file({"a": torch.ones(50)}, tmp_path / "w.safetensors")
    for file in ("w.pth", "w.safetensors"):
        whole = (tmp_path / file).read_bytes()
        for length in range(1, len(whole) - 1, 37):
            (tmp_path / f"cut-{file}").write_bytes(whole[:length])
            assert "truncated" in refusal(tmp_path / f"cut-{file}")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([torch.ones(2)], ["list", "by their names"]),
        ({"state_dict": [torch.ones(2)]}, ["list", "by their names"]),
        (torch.ones(2), ["Tensor", "by their names"]),
        ({"epoch": 3}, ["holds no tensors"]),
        ({0: torch.ones(2)}, ["holds no tensors"]),
        ({"epoch": 3, "net": {"a": torch.ones(2)}}, ["'net'", "torch.load(PATH)['net']"]),
        ({"model_state_dict": {"a": torch.ones(2)}}, ["'model_state_dict'", "torch.save"]),
        ({"state_dict": {"net": {"a": torch.ones(2)}}}, ["'net'"]),
        ({"model": nn.Linear(1, 1)}, ["torch.nn.modules.linear.Linear", "model.state_dict()"]),
        ({"rng": np.ones(2)}, ["Python object", "model.state_dict()"]),
    ],
)
def test_a_pickle_without_tensors_by_their_names_is_named(value: Any, words: list[str], tmp_path: Path) -> None:
    torch.save(value, tmp_path / "w.pth")
    text = refusal(tmp_path / "w.pth")
    assert all(word in text for word in words), text


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64])
def test_weights_that_are_not_finite_are_refused_at_once(
    bad: float, dtype: torch.dtype, tensors: State, tmp_path: Path
) -> None:
    spoilt = tensors["bn1.weight"].to(dtype)
    spoilt[1] = bad
    save_file({**tensors, "bn1.weight": spoilt}, tmp_path / "w.safetensors")
    assert "bn1.weight has values that are NaN or infinite" in refusal(tmp_path / "w.safetensors")


def test_a_file_of_another_architecture_is_refused_before_any_training(tmp_path: Path) -> None:
    save_file({"stem.weight": torch.zeros(3)}, tmp_path / "w.safetensors")
    assert "model.name must be the architecture" in refusal(tmp_path / "w.safetensors")


def test_a_header_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    assert "truncated" in refusal(tmp_path / "w.safetensors")


def test_a_model_with_a_twin_of_another_padding_warns_of_weights_from_a_file(tmp_path: Path) -> None:
    name, twin = "tf_mobilenetv3_small_075", "mobilenetv3_small_075"
    save_file(dict(timm.create_model(twin).state_dict()), tmp_path / "w.safetensors")
    config = ModelConfig(name=name, pretrained=str(tmp_path / "w.safetensors"))
    with pytest.warns(weights.WeightsWarning, match=f"set model.name={twin}"):
        weights.pretrained_state(config, architecture.create(config, 10))


def test_the_padding_twin_of_a_model_is_found_in_both_directions_and_without_tags() -> None:
    assert "weights of efficientnet_lite0 also fit" in (
        catalogue.padding_warning("tf_efficientnet_lite0.in1k", "f") or ""
    )
    assert "weights of tf_efficientnet_lite0 also fit" in (catalogue.padding_warning("efficientnet_lite0", "f") or "")
    assert catalogue.padding_warning("resnet50", "f") is None
