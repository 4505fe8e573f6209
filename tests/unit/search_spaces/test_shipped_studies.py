"""Every shipped study and recipe loads, keeps its promises and names its schema."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import optuna
import pytest

import search_spaces
from hpo.search.distributions import suggest
from hpo.spec.configure import configure
from hpo.spec.corners import corners
from hpo.spec.enqueued import parts
from hpo.spec.seeds import is_control
from hpo.spec.yaml_writer import dump
from hpo.validation.loader import load_spec, load_training, parse_spec, parse_training
from hpo.validation.problems import SpecificationError
from hpo.validation.schema import json_schema, markdown, training_schema
from hpo.validation.settings import settings
from tests.conftest import REPOSITORY
from trainers import schedule
from trainers.api import MagnitudeRamp, RateRamp
from trainers.network.catalogue import close_models, known_model

STUDIES = sorted(search_spaces.studies())
RECIPES = sorted(search_spaces.recipes())


def test_the_promised_studies_ship() -> None:
    assert {"quickstart", "cifar10", "cifar100", "cifar10_cpu", "models_cpu"} <= set(STUDIES)


@pytest.mark.parametrize("name", STUDIES)
def test_study_loads_and_survives_yaml_and_json(name: str) -> None:
    spec = load_spec(name)
    assert spec.study == name
    assert parse_spec(spec.to_yaml(), "again") == spec
    assert max(map(len, spec.to_yaml().splitlines())) <= 80, "what a dry run shows fits the terminal"
    assert type(spec).from_json(spec.to_json()) == spec


@pytest.mark.parametrize("name", STUDIES)
def test_the_labelled_baseline_comes_first_and_all_configurations_are_valid(name: str) -> None:
    spec = load_spec(name)
    assert spec.baseline.label or all("label" in entry for entry in spec.enqueue)
    first = spec.baseline_values()
    assert first["train.lr"] == 1e-3
    assert configure(spec.base(), first) == spec.base()
    for corner in corners(spec.space).combinations:
        configure(spec.base(), corner)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        values = suggest(study.ask(), spec.space)
        stages = configure(spec.base(), values).train.progressive.stages
        assert ("train.progressive.size.start" in values) == (stages >= 2)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_the_baseline_of_the_gpu_studies_has_the_published_settings_at_the_studys_length(name: str) -> None:
    spec, recipe = load_spec(name), load_training("google_cifar10ft")
    first, second = (parts(entry, spec.space) for entry in spec.enqueue)
    assert first.label == f"Google's Cifar{name.removeprefix('cifar')}Ft at this study's length"
    assert configure(spec.base(), first.values | first.settings).train == dataclasses.replace(
        recipe.train,
        epochs=32,
        score="auto",  # with an average it is the same
        min_lr_ratio=0.01,  # of no effect at a constant rate
        compute_size=300,  # the study's unit of compute
        accumulate="auto",  # what fits into the GPU's memory
        checkpoint_every=4,
        progressive=dataclasses.replace(
            recipe.train.progressive,
            dropout=RateRamp(start=0.1, end=0),
            randaugment=MagnitudeRamp(start=5, end=15),
            size_multiple=32,  # of no effect with one stage
        ),
    )
    config = configure(spec.base(), second.values)
    stages = schedule.stages(config.train.progressive, config.train.epochs)
    assert (second.label, second.settings) == ("AdamW, ramps of the paper's table 6", {})
    assert [(stage.size, stage.randaugment) for stage in (stages[0], stages[-1])] == [(128, 5), (300, 15)]
    assert [stage.dropout for stage in (stages[0], stages[-1])] == pytest.approx([0.1, 0.3])
    assert len(stages) == 4


def test_cifar100_searches_what_few_images_of_a_class_need() -> None:
    spaces = {name: load_spec(name).space for name in ("cifar10", "cifar100")}
    assert spaces["cifar100"].keys() - spaces["cifar10"].keys() == {
        "train.progressive.mixup.end",
        "train.augment.cutmix",
    }


@pytest.mark.parametrize("path", [*search_spaces.studies().values(), *search_spaces.recipes().values()], ids=str)
def test_header_names_an_existing_schema(path: Path) -> None:
    modeline = path.read_text(encoding="utf-8").splitlines()[0]
    prefix = "# yaml-language-server: $schema="
    assert modeline.startswith(prefix)
    assert (path.parent / modeline.removeprefix(prefix)).is_file()


@pytest.mark.parametrize("name", STUDIES)
def test_a_studys_header_names_command_hardware_and_expected_result(name: str) -> None:
    header = search_spaces.studies()[name].read_text(encoding="utf-8").split("\nstudy:")[0]
    assert f"hpo run {name}" in header
    assert "hardware " in header
    assert "expected " in header


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_loads_and_survives_yaml(name: str) -> None:
    training = load_training(name)
    assert parse_training(training.to_yaml(), "again") == training
    assert training.config().train == training.train


@pytest.mark.parametrize(("file", "schema"), [("schema.json", json_schema), ("training.schema.json", training_schema)])
def test_schema_file_is_current_and_describes_every_key(file: str, schema: object) -> None:
    assert callable(schema)
    current = schema()
    written = json.loads((search_spaces.FOLDER / file).read_text(encoding="utf-8"))
    assert written == current, f"write it anew: hpo schema > search_spaces/{file}"
    sections = [current, *current["$defs"].values()]
    for section in sections:
        for key, value in section.get("properties", {}).items():
            referenced = current["$defs"].get(str(value.get("$ref", "")).rpartition("/")[2], {})
            assert value.get("description") or referenced.get("description"), (section["title"], key)


def test_the_schema_offers_exactly_the_settings_that_can_be_searched() -> None:
    offered = json_schema()["properties"]["space"]["propertyNames"]["anyOf"][0]["enum"]
    for name in settings():
        space = {name: {"type": "categorical", "choices": [1]}}
        with pytest.raises(SpecificationError) as caught:
            parse_spec(dump({"study": "a", "trainer": "tests.synthetic:train", "space": space, "seed": -1}), "a.yaml")
        refused = any("cannot be searched" in problem.rule for problem in caught.value.problems)
        assert refused != (name in offered), name


def test_the_reference_page_is_current() -> None:
    written = (REPOSITORY / "reports/docs/specification.md").read_text(encoding="utf-8")
    assert written == markdown(), "write it anew: hpo schema --markdown > reports/docs/specification.md"


def test_quickstart_needs_no_gpu_no_data_and_no_weights() -> None:
    spec = load_spec("quickstart")
    assert spec.resources.device == "cpu"
    assert spec.data.name == "shapes"
    assert spec.model.pretrained is False


@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
def test_a_study_for_the_cpu_fine_tunes_and_can_be_audited(data: str) -> None:
    spec = load_spec(f"{data}_cpu")
    assert spec.resources.device == "cpu"
    assert (spec.data.name, spec.model.pretrained) == (data, True)
    assert spec.budget.trials is not None
    controls = [is_control(spec.seed, trial, spec.asha.controls) for trial in range(spec.budget.trials)]
    assert sum(controls) >= 8, "hpo audit gives no advice below"


def test_the_study_of_several_models_trains_each_to_the_end_and_searches_their_costs() -> None:
    spec = load_spec("models_cpu")
    given = [parts(entry, spec.space) for entry in spec.enqueue]
    assert sorted(str(one.values["model.name"]) for one in given) == sorted(spec.model_names)
    assert len(spec.model_names) == 6
    assert all(one.settings for one in given), "references, which ASHA never stops"
    settled = [configure(spec.base(), one.values | one.settings) for one in given]
    assert len({(config.train, config.model.drop_path, config.model.bn_momentum) for config in settled}) == 1
    assert len({configure(spec.base(), corner).model.name for corner in corners(spec.space).combinations}) == 6
    assert spec.objectives == ("val_accuracy", "macs")


def test_model_names_are_cached_and_a_bad_cache_is_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainers.network import catalogue

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    catalogue._model_names.cache_clear()
    assert known_model("tf_efficientnetv2_s")
    assert known_model("tf_efficientnetv2_s.in21k_ft_in1k")
    assert not known_model("tf_efficientnetv2_s.in99k")
    assert "tf_efficientnetv2_s" in close_models("tf_efficentnetv2_s")
    (cache,) = tmp_path.rglob("*.json")
    cache.write_text('["only_this"]')
    catalogue._model_names.cache_clear()
    assert known_model("only_this")
    cache.write_text("{broken")
    catalogue._model_names.cache_clear()
    assert known_model("tf_efficientnetv2_s")
    os.remove(cache)
    cache.mkdir()  # cannot be read, cannot be replaced
    catalogue._model_names.cache_clear()
    assert known_model("tf_efficientnetv2_s")
    catalogue._model_names.cache_clear()
