"""Data sets are verified, decoded once, shared and split the same way every time."""

from __future__ import annotations

import ast
import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.datasets import CIFAR10, CIFAR100

from trainers import data
from trainers.api import DataConfig, DataError
from trainers.data import shapes
from trainers.data.split import stratified

ROOT = Path(__file__).parents[3]


def write_official(folder: Path, name: str, content: dict) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    payload = pickle.dumps(content)
    (folder / name).write_bytes(payload)
    return [name, hashlib.md5(payload, usedforsecurity=False).hexdigest()]


def pixels(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


@pytest.fixture
def cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """Four images of each of the hundred classes in the official layout, with MD5 lists that fit."""
    folder = tmp_path / "root" / CIFAR100.base_folder
    fine = [label for label in range(100) for _ in range(4)]
    train = write_official(folder, "train", {"data": pixels(400, 0), "fine_labels": fine})
    test = write_official(folder, "test", {"data": pixels(100, 1), "fine_labels": list(range(100))})
    meta = write_official(folder, "meta", {"fine_label_names": [f"class {n}" for n in range(100)]})
    monkeypatch.setattr(CIFAR100, "train_list", [train])
    monkeypatch.setattr(CIFAR100, "test_list", [test])
    monkeypatch.setattr(CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": meta[1]})
    return DataConfig(name="cifar100", root=str(tmp_path / "root"), validation_fraction=0.25)


def test_cifar100_is_read_from_the_official_layout(cifar100: DataConfig, tmp_path: Path) -> None:
    info = data.prepare(cifar100, str(tmp_path / "cache"))
    assert (info.num_classes, info.train_count, info.validation_count) == (100, 300, 100)
    assert info.classes[42] == "class 42"
    train, validation = data.train_and_validation(cifar100, str(tmp_path / "cache"), "cpu")
    assert torch.equal(train.images, torch.from_numpy(pixels(400, 0)).view(400, 3, 32, 32))
    assert torch.equal(train.labels, torch.arange(100).repeat_interleave(4))
    assert sorted(train.indices.tolist() + validation.indices.tolist()) == list(range(400))
    test = data.open_test_split(cifar100, str(tmp_path / "cache"), "cpu")
    assert torch.equal(test.images, torch.from_numpy(pixels(100, 1)).view(100, 3, 32, 32))


def test_an_error_about_a_missing_data_file_names_the_remedy(tmp_path: Path) -> None:
    config = DataConfig(root=str(tmp_path / "nowhere"))
    with pytest.raises(DataError) as caught:
        data.prepare(config, str(tmp_path / "cache"))
    text = str(caught.value)
    assert str(tmp_path / "nowhere" / "cifar-10-batches-py" / "data_batch_1") in text
    assert "is missing" in text
    assert "data.root" in text
    assert "data.download=true" in text
    assert CIFAR10.url in text


@pytest.mark.parametrize("damage", ["truncate", "alter"])
def test_an_error_about_a_damaged_data_file_names_both_md5s(cifar100: DataConfig, damage: str, tmp_path: Path) -> None:
    path = Path(cifar100.root) / CIFAR100.base_folder / "test"
    content = path.read_bytes()
    path.write_bytes(content[:-100] if damage == "truncate" else content[:-1] + b"x")
    with pytest.raises(DataError, match="truncated or altered") as caught:
        data.prepare(cifar100, str(tmp_path / "cache"))
    assert str(path) in str(caught.value)
    assert CIFAR100.test_list[0][1] in str(caught.value)


def test_a_missing_source_file_is_reported_even_if_the_cache_is_filled(cifar100: DataConfig, tmp_path: Path) -> None:
    data.prepare(cifar100, str(tmp_path / "cache"))
    (Path(cifar100.root) / CIFAR100.base_folder / "train").unlink()
    data.train_and_validation(cifar100, str(tmp_path / "cache"), "cpu")  # a worker has what it needs
    with pytest.raises(DataError, match="is missing"):
        data.prepare(cifar100, str(tmp_path / "cache"))


def test_a_hostile_pickle_with_a_wrong_md5_is_not_opened(cifar100: DataConfig, tmp_path: Path) -> None:
    trace = tmp_path / "executed"

    class Hostile:
        def __reduce__(self) -> tuple:
            return trace.touch, ()

    (Path(cifar100.root) / CIFAR100.base_folder / "train").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(DataError):
        data.prepare(cifar100, str(tmp_path / "cache"))
    assert not trace.exists()


def test_an_error_about_a_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CIFAR10, "url", (tmp_path / "absent.tar.gz").as_uri())
    with pytest.raises(DataError, match=r"cannot download .*absent.*data\.root"):
        data.prepare(DataConfig(root=str(tmp_path), download=True), str(tmp_path / "cache"))


def test_the_data_cache_is_filled_once_and_shared(cifar100: DataConfig, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    data.prepare(cifar100, str(cache))
    (folder,) = (cache / "data").iterdir()
    assert folder.name.startswith("cifar100-train-")
    before = (folder / "images.npy").stat().st_mtime_ns
    data.prepare(cifar100, str(cache))
    assert (folder / "images.npy").stat().st_mtime_ns == before
    first, _ = data.train_and_validation(cifar100, str(cache), "cpu")
    second, _ = data.train_and_validation(replace(cifar100, split_seed=1), str(cache), "cpu")
    assert first.images.data_ptr() == second.images.data_ptr()
    assert isinstance(np.load(folder / "images.npy", mmap_mode="r"), np.memmap)


def test_real_cifar10_is_read_completely(tmp_path: Path) -> None:
    import os

    root = os.environ.get("HPO_TEST_CIFAR")
    if not root:
        pytest.skip("HPO_TEST_CIFAR does not name a folder with cifar-10-batches-py")
    config = DataConfig(root=root, train_limit=1000, validation_limit=100)
    info = data.prepare(config, str(tmp_path))
    assert info.classes[0] == "airplane"
    assert (info.train_count, info.validation_count) == (1000, 100)
    train, validation = data.train_and_validation(config, str(tmp_path), "cpu")
    assert train.images.shape == (50_000, 3, 32, 32)
    assert torch.bincount(train.labels[train.indices]).tolist() == [100] * 10
    assert torch.bincount(validation.labels[validation.indices]).tolist() == [10] * 10


@given(
    sizes=st.lists(st.integers(2, 40), min_size=1, max_size=8),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**70),
    train_limit=st.none() | st.integers(1, 400),
    validation_limit=st.none() | st.integers(1, 400),
)
def test_splits_are_stratified_disjoint_and_limited(
    sizes: list[int], fraction: float, seed: int, train_limit: int | None, validation_limit: int | None
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    whole = stratified(labels, fraction, seed)
    assert sorted([*whole.train, *whole.validation]) == list(range(len(labels)))
    for label, size in enumerate(sizes):
        held_out = int((labels[whole.validation] == label).sum())
        assert 1 <= held_out < size
        assert abs(held_out - size * fraction) <= 1
    cut = stratified(labels, fraction, seed, train_limit=train_limit, validation_limit=validation_limit)
    assert len(cut.train) == min(train_limit or len(whole.train), len(whole.train))
    assert len(cut.validation) == min(validation_limit or len(whole.validation), len(whole.validation))
    assert set(cut.train) <= set(whole.train)
    assert set(cut.validation) <= set(whole.validation)
    share = len(cut.train) / len(whole.train)
    for label in range(len(sizes)):
        kept, had = (int((labels[part.train] == label).sum()) for part in (cut, whole))
        assert abs(kept - had * share) < 1


def test_the_hash_of_a_split_identifies_it_and_is_stable() -> None:
    labels = np.arange(100) % 4
    split = stratified(labels, 0.2, 3)
    assert split.hash == stratified(labels, 0.2, 3).hash
    assert split.hash == "a7bbec8c6d3d9a3f3afe49c22a4e106182ba9bdb798d2a5a69f7d60d61bbcf49"
    others = {stratified(labels, 0.2, 4).hash, stratified(labels, 0.3, 3).hash}
    others.add(stratified(labels, 0.2, 3, train_limit=40).hash)
    assert len(others | {split.hash}) == 4


def test_a_class_of_one_image_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="class 1 has 1 image"):
        stratified(np.array([0, 0, 1]), 0.5, 0)


def test_generated_shapes_are_deterministic_balanced_and_not_recognisable_by_colour() -> None:
    images, labels = shapes.draw("test")
    assert images.shape == (2000, 3, 32, 32)
    assert images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [200] * 10
    again, _ = shapes.draw("test")
    assert np.array_equal(images, again)
    # A linear reading of each image's mean colour and spread is hardly better than guessing.
    features = images.reshape(2000, 3, -1).astype(np.float64)
    features = np.concatenate([features.mean(2), features.std(2), np.ones((2000, 1))], axis=1)
    fit = np.linalg.lstsq(features[:1000], np.eye(10)[labels[:1000]], rcond=None)[0]
    accuracy = ((features[1000:] @ fit).argmax(1) == labels[1000:]).mean()
    assert accuracy < 0.35


def test_only_retrain_opens_the_test_split() -> None:
    """By the source: `open_test_split` is named in its own file and retrain.py; `train=False` in its body alone."""
    for path in sorted([*ROOT.glob("trainers/**/*.py"), *ROOT.glob("hpo/**/*.py"), *ROOT.glob("reports/**/*.py")]):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        named |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        named |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        where = path.relative_to(ROOT).as_posix()
        assert "open_test_split" not in named or where == "trainers/retrain.py", where
        opened = [
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            for call in ast.walk(node)
            if isinstance(call, ast.keyword) and call.arg == "train"
            if isinstance(call.value, ast.Constant) and call.value.value is False
        ]
        assert opened == (["open_test_split"] if where == "trainers/data/__init__.py" else []), where
