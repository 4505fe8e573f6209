"""Trained models that `hpo export` converts: their own runtimes load them, and their outputs are compared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from hpo.cli.app import app
from hpo.home import Home
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.validation.loader import load_training
from tests.conftest import synthetic_spec
from tests.support.training import TINY, context
from trainers import formats
from trainers.api import EpochMetrics
from trainers.retrain import retrain

STUDY = "exported"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, cache: str) -> Path:
    """The folder of a retrained model."""
    folder = tmp_path_factory.mktemp("model")
    retrain(TINY, context(cache, folder / "checkpoints"), seed=0, output_dir=folder)
    return folder


@pytest.fixture
def studied(home: Home) -> Home:
    """A home folder with a study of three complete trials; the last one is the best."""
    spec = synthetic_spec(STUDY, trainer="trainers.finetune:train", space={"train.lr": {
        "type": "float", "low": 1e-5, "high": 1e-2, "log": True}}, enqueue=[], extra={},
        model={"name": "test_efficientnet", "pretrained": False})  # fmt: skip
    ledger = Ledger.create(open_storage(home.ledger_url), spec, {"versions": {"timm": timm.__version__}})
    for value in (0.5, 0.6, 0.7):
        trial = ledger.ask(
            lambda asked: ({"train.lr": asked.suggest_float("train.lr", 1e-5, 1e-2, log=True)}, "random"), int
        )
        for epoch in range(1, 9):
            ledger.record(trial.number, EpochMetrics(epoch=epoch, val_accuracy=value), None)
        ledger.finish(trial.number, Outcome(Ending.COMPLETE, "trained for all 8 epochs"))
    ledger.close()
    return home


def hpo(home: Home, *options: object) -> Result:
    return CliRunner().invoke(app, ["export", STUDY, "--home", str(home.path), *map(str, options)])


def logits(net: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return net(images)


def original(model: Path) -> torch.nn.Module:
    return timm.create_model(f"local-dir:{model}", pretrained=True).eval()


def test_timm_loads_an_exported_hf_folder(model: Path, studied: Home, tmp_path: Path) -> None:
    done = hpo(studied, "--format", "hf", "--model", model, "-o", tmp_path / "hf", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["parity"] == {
        "images": 4, "max_abs_difference": 0.0, "max_relative_difference": 0.0, "same_class": 4
    }  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "hf").iterdir()) == ["config.json", "model.safetensors"]
    images = torch.randn(3, 3, 48, 48)
    assert torch.equal(logits(original(tmp_path / "hf"), images), logits(original(model), images))


def test_an_onnx_export_computes_the_same_for_any_number_of_images(model: Path, studied: Home, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    done = hpo(studied, "--format", "onnx", "--model", model, "-o", tmp_path)
    assert done.exit_code == 0, done.output
    assert "logits of 4 random images differ by at most" in " ".join(done.stdout.split())
    assert "same class for 4" in " ".join(done.stdout.split())
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    images = torch.randn(7, 3, 48, 48)
    (result,) = session.run(["logits"], {"images": images.numpy()})
    np.testing.assert_allclose(result, logits(original(model), images).numpy(), rtol=1e-3, atol=1e-4)
    assert json.loads((tmp_path / "config.json").read_text())["label_names"][0] == "disc"


def test_a_pt2_export_computes_the_same_for_any_number_of_images(model: Path, studied: Home, tmp_path: Path) -> None:
    done = hpo(studied, "--format", "pt2", "--model", model, "-o", tmp_path, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["file"] == str(tmp_path / "model.pt2")
    images = torch.randn(7, 3, 48, 48)
    result = torch.export.load(tmp_path / "model.pt2").module()(images)
    torch.testing.assert_close(result, logits(original(model), images), rtol=1e-4, atol=1e-5)


def test_a_converted_model_that_computes_something_else_is_deleted(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(net: torch.nn.Module, images: torch.Tensor, path: Path) -> None:
        with torch.no_grad():
            torch.export.save(torch.export.export(net.train(), (images,)), path)

    monkeypatch.setattr(formats, "_write_pt2", spoilt)
    with pytest.raises(formats.FormatError, match="does not compute the same as the model"):
        formats.convert(model, tmp_path / "out", "pt2")
    assert list((tmp_path / "out").iterdir()) == []


def test_the_error_for_a_missing_package_names_the_extra_to_install(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(formats.FormatError, match=r"onnx, onnxscript, onnxruntime: pip install .*\[onnx\]"):
        formats.convert(model, tmp_path, "onnx")


def test_a_folder_without_a_model_or_with_a_broken_one_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(formats.FormatError, match=r"model\.safetensors is missing; `hpo retrain` writes"):
        formats.convert(tmp_path, tmp_path / "out", "hf")
    tensors = load_file(model / "model.safetensors")
    save_file(
        {name: value for name, value in tensors.items() if "conv_stem" not in name}, tmp_path / "model.safetensors"
    )
    (tmp_path / "config.json").write_text((model / "config.json").read_text())
    with pytest.raises(formats.FormatError, match="cannot be loaded"):
        formats.convert(tmp_path, tmp_path / "out", "hf")


# -------------------------------------------------------------------------------------- configurations


def test_the_best_trial_is_exported_for_timm_to_a_file_or_to_standard_output(studied: Home, tmp_path: Path) -> None:
    done = hpo(studied, "--format", "timm")
    path = studied.exports(STUDY) / "best.timm.yaml"
    assert done.stdout == f"{path}\n"
    text = path.read_text()
    assert text.startswith("# Trial 2 of study exported, validation accuracy 70.00 %\n")
    assert "\nepochs: 8\n" in text
    assert hpo(studied, "--format", "timm", "-o", "-").stdout == text
    assert list(tmp_path.rglob(".*")) == [], "no temporary file is left"


def test_top_exports_the_best_trials_in_order(studied: Home, tmp_path: Path) -> None:
    done = hpo(studied, "--top", 2, "-o", tmp_path / "top", "--json")
    result = json.loads(done.stdout)
    assert [entry["trial"] for entry in result] == [2, 1]
    assert [Path(entry["file"]).name for entry in result] == ["top-1-trial-00002.yaml", "top-2-trial-00001.yaml"]
    first = load_training(result[0]["file"])
    assert first.provenance is not None
    assert first.provenance.val_accuracy == 0.7
    assert len(json.loads(hpo(studied, "--top", 50, "--format", "timm", "--json").stdout)) == 3


def test_a_retrained_model_is_found_in_the_home_folder(model: Path, studied: Home) -> None:
    done = hpo(studied, "--format", "hf")
    assert done.exit_code == 1
    assert "hpo retrain best.yaml" in str(done.exception)
    place = studied.path / "retrained" / "best" / "seed-0"
    place.mkdir(parents=True)
    for name in ("model.safetensors", "config.json"):
        (place / name).write_bytes((model / name).read_bytes())
    assert hpo(studied, "-o", place / "training.yaml").exit_code == 0
    result = json.loads(hpo(studied, "--format", "hf", "--json").stdout)
    assert result["model"] == str(place)
    assert result["file"] == str(studied.exports(STUDY) / "best" / "hf")
    assert "trial 0" in str(hpo(studied, "--format", "hf", "--trial", 0).exception), "this trial has no retrained model"

    text = (place / "training.yaml").read_text()
    (place / "training.yaml").write_text(text.replace("momentum: 0.9", "momentum: 0.8"))
    said = str(hpo(studied, "--format", "hf").exception)
    assert "trial 2 of exported has no retrained model" in said, "one with other settings is not the trial's"
    assert f"`hpo retrain best.yaml --home {studied.path}`" in said


def test_options_that_exclude_each_other_are_refused(studied: Home) -> None:
    for options, said in {
        "--format tflite": "hpo, timm, hf, onnx, pt2",
        "--trial 0 --top 2": "leave one of them out",
        "--model x": "--model names",
        "--format hf --top 2 --model x": "--model names",
        "--top 2 -o -": "name a folder",
        "--format pt2 -o -": "name a folder",
        "-o - --model x": "--model names",
        "-o - --json": "leave --json out",
        "--trial 0 --search-best": "leave one of them out",
    }.items():
        assert said in str(hpo(studied, *options.split()).exception), options
    assert not studied.exports(STUDY).exists()
