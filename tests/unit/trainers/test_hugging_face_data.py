"""Data sets of the library `datasets`, made on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.image_folders import noise
from trainers import data
from trainers.api import DataConfig, DataError
from trainers.data import hub

datasets = pytest.importorskip("datasets")
SIDE = 16


def split(count: int, classes: tuple[str, ...] = ("a", "b"), **more: list[Any]) -> Any:
    columns = {"image": [noise(index) for index in range(count)], "label": [index % 2 for index in range(count)]} | more
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(classes))})
    return datasets.Dataset.from_dict(columns, features=features)


def settings(root: Path) -> DataConfig:
    return DataConfig(name="hf", root=str(root), cache_size=SIDE)


def problem(root: Path, tmp_path: Path) -> str:
    with pytest.raises(DataError) as caught:
        data.prepare(settings(root), str(tmp_path / "cache"))
    return str(caught.value)


def test_splits_on_the_disk_are_the_parts(tmp_path: Path) -> None:
    whole = datasets.DatasetDict({"train": split(6), "validation": split(4), "test": split(2)})
    whole.save_to_disk(tmp_path / "set")
    config = settings(tmp_path / "set")
    info = data.prepare(config, str(tmp_path / "cache"))
    assert (info.classes, info.train_count, info.validation_count) == (("a", "b"), 6, 4)
    train, validation = data.train_and_validation(config, str(tmp_path / "cache"), "cpu")
    assert train.labels[train.indices].tolist() == [0, 1, 0, 1, 0, 1]
    from trainers.data.decode import square

    assert np.array_equal(validation.images[validation.indices[3]], square(noise(3), SIDE))
    assert len(data.open_test_split(config, str(tmp_path / "cache"), "cpu")) == 2


def test_a_single_split_is_divided_and_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split(10).save_to_disk(tmp_path / "set")
    info = data.prepare(settings(tmp_path / "set"), str(tmp_path / "cache"))
    assert (info.train_count, info.validation_count) == (8, 2)
    monkeypatch.setattr(hub, "square", None)
    assert data.prepare(settings(tmp_path / "set"), str(tmp_path / "cache")) == info
    assert not data.has_test_split(settings(tmp_path / "set"))


def test_damaged_images_are_listed_by_split_and_row(tmp_path: Path) -> None:
    images = [{"bytes": b"broken", "path": None}, *(noise(index) for index in range(4)), None]
    split(6, image=images).save_to_disk(tmp_path / "set")
    text = problem(tmp_path / "set", tmp_path)
    assert "row 0 of train: it is not an image of a known format" in text
    assert "row 5 of train: it is missing" in text
    assert text.startswith("2 of 6 images cannot be used")


def test_labels_that_are_kept_back_are_no_test_set(tmp_path: Path) -> None:
    whole = datasets.DatasetDict({"train": split(6), "test": split(2, label=[-1, -1])})
    whole.save_to_disk(tmp_path / "set")
    assert not data.has_test_split(settings(tmp_path / "set"))


def test_what_cannot_be_learnt_is_refused(tmp_path: Path) -> None:
    assert "is no data set on disk" in problem(tmp_path / "nowhere", tmp_path)
    split(6, ("a", "b", "never")).save_to_disk(tmp_path / "never")
    assert "never has no images to train on" in problem(tmp_path / "never", tmp_path)
    split(6).remove_columns("label").save_to_disk(tmp_path / "unlabelled")
    assert "no column of class labels (columns: image); make one with class_encode" in problem(
        tmp_path / "unlabelled", tmp_path
    )
    split(6, label=[0, 1, 0, 1, 0, None]).save_to_disk(tmp_path / "partly")
    assert "has images without a label" in problem(tmp_path / "partly", tmp_path)


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            ConnectionError("Couldn't reach 'us/pets' on the Hub (OfflineModeIsEnabled)"),
            "(OfflineModeIsEnabled); check",
        ),
        (
            ValueError("Config name is missing.\nPlease pick one among the available configs: ['a', 'b']\nExample:\n"),
            "Config name is missing. Please pick one among the available configs: ['a', 'b']; check",
        ),
        (RuntimeError(), "RuntimeError; check"),
    ],
)
def test_a_data_set_of_the_hub_that_cannot_be_loaded_is_one_sentence_with_the_remedy(
    raised: Exception, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise raised

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    hub.parts.cache_clear()
    with pytest.raises(DataError) as caught:
        data.prepare(DataConfig(name="hf", hub="us/pets", cache_size=SIDE), str(tmp_path))
    text = str(caught.value)
    assert text.startswith("data.hub: us/pets cannot be loaded: ")
    assert said in text
    assert "check the name, the network, HF_TOKEN and HF_HUB_OFFLINE" in text
    assert "which also takes a configuration and a revision, save it with save_to_disk" in text
    assert "\n" not in text


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'hpo-efficientnetv2[hf]'" in problem(tmp_path / "set", tmp_path)
