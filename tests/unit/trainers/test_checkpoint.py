"""A checkpoint is complete and intact or not there, and nothing in it is ever executed."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import fsspec
import pytest
import torch

from trainers.checkpoint import DirectoryStore

TENSORS = {"a": torch.arange(12.0).view(3, 4).t(), "n": torch.tensor(3)}
STATE = {"optimizer": {"state": {0: {"step": torch.tensor(2.0)}}, "betas": (0.9, 0.999)}, "metrics": {"epoch": 1}}


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> DirectoryStore:
    if request.param == "folder":
        return DirectoryStore(str(tmp_path / "not" / "yet"))
    return DirectoryStore(f"memory://{tmp_path.name}/{request.node.name}")


def content(store: DirectoryStore, name: str) -> bytes:
    return store._files.cat_file(f"{store._root}/{name}")


def overwrite(store: DirectoryStore, name: str, data: bytes) -> None:
    store._files.pipe_file(f"{store._root}/{name}", data)


def rewritten_manifest(store: DirectoryStore, epoch: int) -> None:
    """What a person who can write files can do: a manifest that fits them."""
    names = (f"{epoch:06}.safetensors", f"{epoch:06}.pt")
    hashes = {name: hashlib.sha256(content(store, name)).hexdigest() for name in names}
    overwrite(store, f"{epoch:06}.json", json.dumps({"format": 1, "epoch": epoch, "sha256": hashes}).encode())


def test_tied_weights_and_views_are_stored_under_each_of_their_names(store: DirectoryStore) -> None:
    """CoaT shares modules between its blocks."""
    weight = torch.arange(6.0)
    store.save(1, {"a": weight, "b": weight, "c": weight[2:], "d": weight.view(2, 3).t()}, STATE)
    _, tensors, _ = store.load()
    assert torch.equal(tensors["a"], weight)
    assert torch.equal(tensors["b"], weight)
    assert torch.equal(tensors["c"], weight[2:])
    assert torch.equal(tensors["d"], weight.view(2, 3).t())


def test_load_returns_what_was_saved(store: DirectoryStore) -> None:
    assert store.load() is None
    digest = store.save(7, TENSORS, STATE)
    epoch, tensors, state = store.load()
    assert epoch == 7
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert state.pop("checkpoint") == digest
    assert state == STATE
    assert store.epochs() == [7]


def test_the_last_two_checkpoints_are_kept(store: DirectoryStore) -> None:
    for epoch in (1, 2, 3, 10):
        store.save(epoch, TENSORS, STATE)
    assert store.epochs() == [3, 10]
    assert len(store._names()) == 6


@pytest.mark.parametrize("victim", ["000002.safetensors", "000002.pt", "000002.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(store: DirectoryStore, victim: str, damage: str) -> None:
    store.save(1, TENSORS, STATE)
    store.save(2, TENSORS, STATE)
    data = content(store, victim)
    middle = len(data) // 2
    if damage == "remove":
        store._files.rm_file(f"{store._root}/{victim}")
    else:
        flipped = data[:middle] + bytes([data[middle] ^ 64]) + data[middle + 1 :]
        overwrite(store, victim, {"flip": flipped, "truncate": data[:middle], "empty": b""}[damage])
    if victim.endswith(".json") and damage == "remove":
        assert store.load()[0] == 1
        return
    with pytest.warns(UserWarning, match="epoch 2 .* is damaged and skipped"):
        assert store.load()[0] == 1


def test_load_warns_and_returns_none_when_every_checkpoint_is_damaged(store: DirectoryStore) -> None:
    store.save(1, TENSORS, STATE)
    store.save(2, TENSORS, STATE)
    overwrite(store, "000001.pt", b"x")
    overwrite(store, "000002.pt", b"x")
    with pytest.warns(UserWarning, match="is damaged and skipped") as caught:
        assert store.load() is None
    assert len(caught) == 2


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_a_hostile_pickle_is_refused_and_never_executed(store: DirectoryStore, form: str, tmp_path: Path) -> None:
    store.save(1, TENSORS, STATE)
    store.save(2, TENSORS, STATE)
    trace = tmp_path / "executed"
    buffer = io.BytesIO()
    if form == "torch":
        torch.save({"optimizer": Hostile(trace)}, buffer)
    else:
        pickle.dump(Hostile(trace), buffer)
    overwrite(store, "000002.pt", buffer.getvalue())
    rewritten_manifest(store, 2)
    with pytest.warns(UserWarning, match="epoch 2"):
        assert store.load()[0] == 1
    assert not trace.exists()


def test_a_state_that_is_not_a_mapping_counts_as_damaged(store: DirectoryStore) -> None:
    store.save(1, TENSORS, STATE)
    buffer = io.BytesIO()
    torch.save([1, 2], buffer)
    overwrite(store, "000001.pt", buffer.getvalue())
    rewritten_manifest(store, 1)
    with pytest.warns(UserWarning, match="is a list"):
        assert store.load() is None


def test_a_full_disk_leaves_the_older_checkpoint_and_no_rubbish(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path))
    store.save(1, TENSORS, STATE)
    before = sorted(os.listdir(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError) as caught:  # noqa: PT011 - its number is checked
            store.save(2, {"big": torch.zeros(10_000)}, STATE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG
    assert [name for name in sorted(os.listdir(tmp_path)) if name not in [*before, "000002.pt"]] == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.load()[0] == 1
    store.save(2, TENSORS, STATE)
    assert store.load()[0] == 2


def test_leftovers_of_a_killed_writer_are_cleared(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path))
    store.save(1, TENSORS, STATE)
    (tmp_path / ".000002.pt-x").write_bytes(b"half")
    (tmp_path / "000002.safetensors").write_bytes(b"half")
    assert store.load()[0] == 1
    store.save(3, TENSORS, STATE)
    assert sorted({name[:6] for name in os.listdir(tmp_path)}) == ["000001", "000003"]


def stored_bytes(store: DirectoryStore) -> int:
    return sum(len(content(store, name)) for name in store._names())


def test_drop_removes_all_checkpoints_or_all_but_the_newest(store: DirectoryStore) -> None:
    assert stored_bytes(store) == 0
    store.drop(keep_last=False)
    for epoch in (1, 2):
        store.save(epoch, TENSORS, STATE)
    both = stored_bytes(store)
    assert both > 0
    store.drop(keep_last=True)
    assert store.epochs() == [2]
    assert 0 < stored_bytes(store) < both
    store.drop(keep_last=False)
    assert stored_bytes(store) == 0
    assert store.load() is None


@pytest.mark.parametrize("scheme", ["memory:/", ""])
def test_a_folder_named_like_a_pattern_loses_only_its_own_files(scheme: str, tmp_path: Path) -> None:
    pattern, other = (DirectoryStore(f"{scheme}{tmp_path}/{name}") for name in ("run*[1]", "run-1"))
    for one in (pattern, other):
        one.save(1, TENSORS, STATE)
    pattern.drop(keep_last=False)
    assert pattern.epochs() == []
    assert other.epochs() == [1]


def test_a_local_path_with_two_colons_is_one_folder(tmp_path: Path) -> None:
    """fsspec takes `::` for a chain of places, and would put the checkpoints of every trial into one folder."""
    DirectoryStore(f"{tmp_path}/a::b/trial-1").save(1, TENSORS, STATE)
    assert (tmp_path / "a::b" / "trial-1" / "000001.json").is_file()
    assert [file.name for file in tmp_path.iterdir()] == ["a::b"]


def test_listing_and_removing_checkpoints_needs_no_torch(tmp_path: Path) -> None:
    DirectoryStore(str(tmp_path)).save(4, TENSORS, STATE)
    code = (
        "import sys; from trainers.checkpoint import DirectoryStore; s = DirectoryStore(sys.argv[1]);"
        "assert s.epochs() == [4]; s.drop(keep_last=True); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0


def test_a_home_relative_folder_and_a_file_uri_are_the_same_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    DirectoryStore("~/trial").save(1, TENSORS, STATE)
    assert DirectoryStore(f"file://{tmp_path}/trial").load()[0] == 1
    assert fsspec.filesystem("file").exists(str(tmp_path / "trial" / "000001.json"))
