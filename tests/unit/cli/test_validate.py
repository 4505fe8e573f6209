"""`hpo validate` knows studies, recipes and exported configurations, and says which it found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.driver.preflight import preflight
from hpo.errors import UsageError
from hpo.home import Home
from hpo.spec.training import Provenance, Training
from hpo.tracking.process.child import Child
from hpo.validation.loader import load_spec
from hpo.validation.problems import SpecificationError
from tests.support.image_folders import write_classes
from tests.support.output_schema import check
from trainers.api import DataConfig, ModelConfig

NETWORK = ModelConfig(name="test_efficientnet", pretrained=False)


def said(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["validate", *arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["validate", *arguments])
    assert isinstance(done.exception, UsageError), done.output
    return str(done.exception)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """What `hpo export` writes for the best trial of a study."""
    origin = Provenance(study="small", trial=3, val_accuracy=0.9)
    training = Training(
        description="Trial 3 of study small", data=DataConfig(name="shapes"), model=NETWORK, provenance=origin
    )
    file = tmp_path / "best.yaml"
    file.write_text(training.to_yaml())
    return file


def test_images_that_validate_has_decoded_are_not_decoded_again_by_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, home = write_classes(tmp_path / "images", {"a": 2, "b": 2}), Home(tmp_path / "home")
    file = tmp_path / "mine.yaml"
    file.write_text(
        f"study: mine\ndata: {{name: folder, root: {images}, cache_size: 8}}\n"
        "model: {name: test_efficientnet, pretrained: false}\ntracking: {enabled: false}\n"
        "space:\n  train.lr: {type: float, low: 1e-4, high: 1e-2, log: true}\n"
    )
    said(str(file), "--home", str(home.path))
    monkeypatch.setattr("trainers.data.folder.square", None)
    found = preflight(load_spec(str(file)), home, Child())
    assert found["data"]["num_classes"] == 2


def test_a_recipe_is_called_a_recipe() -> None:
    name = "google_cifar10ft"
    small = ("model.name=test_efficientnet", "model.pretrained=false")  # the network itself takes seconds to check
    assert said(name, *small) == (
        f"{name}: valid. Recipe: test_efficientnet on cifar10, 103 epochs. It has no space to search; "
        "it is for `hpo retrain`.\n"
    )


def test_an_exported_file_names_the_trial_that_it_comes_from(exported: Path) -> None:
    assert f"{exported}: valid. Exported configuration (Trial 3 of study small): test_efficientnet on shapes" in said(
        str(exported)
    )
    found = json.loads(said(str(exported), "--json"))
    assert (found["what"], found["study"], found["parameters"]) == ("exported configuration", "small", 0)
    check("validate", found)


def test_an_exported_file_is_checked_as_json_too(exported: Path) -> None:
    text = Training(data=DataConfig(name="shapes"), model=NETWORK).model_dump_json()
    file = exported.with_suffix(".json")
    file.write_text(text)
    assert "valid. Single training: test_efficientnet on shapes" in said(str(file))


def test_mistakes_in_an_exported_file_are_listed_with_their_lines(exported: Path) -> None:
    lines = exported.read_text().replace("optimizer: adamw", "optimizer: adam").splitlines()
    exported.write_text("\n".join(lines))
    place = next(number for number, line in enumerate(lines, 1) if "optimizer: adam" in line)
    error = refused(str(exported))
    assert f"{exported}:{place}: train.optimizer: must be adamw, sgd" in error
    assert "study: is required" not in error


def test_what_has_only_a_space_is_still_a_study(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("space: {train.lr: {type: float, low: 1e-4, high: 1e-2}}\n")
    assert "study: is required" in refused(str(file))


def test_a_training_notifies_nobody(exported: Path) -> None:
    assert "is a single training, which notifies nobody; leave --notify out" in refused(str(exported), "--notify")


def test_an_unknown_name_is_compared_with_studies_and_recipes() -> None:
    done = CliRunner().invoke(app, ["validate", "google_cifar10f"])
    assert isinstance(done.exception, SpecificationError)
    assert "did you mean google_cifar10ft?" in str(done.exception)
