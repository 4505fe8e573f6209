"""Images that do not fit on the device stay on the host; a training on them computes the same."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.image_folders import write_classes
from tests.support.training import TINY, context
from trainers import data
from trainers.api import DataConfig, ModelConfig, Notice, TrainConfig, TrialConfig
from trainers.data import arrays, images
from trainers.data.images import Images, Place, place_of
from trainers.loop.engine import Engine
from trainers.numerics import numerics_of

GB = 10**9
MODEL = ModelConfig(name="test_efficientnet", pretrained=False, drop_path=0.1)


def part(place: Place, count: int = 70) -> Images:
    pixels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Images(pixels, torch.arange(count) % 4, torch.arange(count), ("a", "b", "c", "d"), place)


@pytest.mark.parametrize(
    ("size", "free", "share", "expected"),
    [
        (40 * GB, 80 * GB, 1.0, "device"),
        (40 * GB + 1, 80 * GB, 1.0, "host"),
        (20 * GB, 80 * GB, 0.5, "device"),
        (20 * GB + 1, 80 * GB, 0.5, "host"),
        (1, 0, 1.0, "host"),
    ],
)
def test_images_are_on_the_device_if_they_fill_half_of_what_is_free_for_a_trial(
    size: int, free: int, share: float, expected: Place
) -> None:
    assert place_of(size, free, share) == expected


@pytest.mark.parametrize("sizes", [[], [70], [7] * 10, [30, 30, 10], [1, 68, 1]])
def test_groups_that_are_sent_are_those_of_the_device(sizes: list[int]) -> None:
    positions = torch.randperm(70)[: sum(sizes)]
    expected = part("device").groups(positions, sizes)
    sent = part("host").groups(positions, sizes)
    for group, there in zip(sent, expected, strict=True):
        assert torch.equal(group, there)


def test_one_group_is_gathered_ahead_by_a_thread_that_ends_with_the_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    gathered: list[int] = []
    threads: set[str] = set()
    original = images._Lane.gather

    def gather(lane: Any, pixels: Any, positions: Any) -> None:
        original(lane, pixels, positions)
        gathered.append(len(positions))
        threads.add(threading.current_thread().name)

    monkeypatch.setattr(images._Lane, "gather", gather)
    groups = part("host").groups(torch.arange(60), [10, 11, 12, 13, 14])
    next(groups)
    (thread,) = [one for one in threading.enumerate() if one.name.startswith("gather-images")]
    next(groups)
    assert gathered[:2] == [10, 11]
    assert len(gathered) <= 3
    groups.close()  # type: ignore[attr-defined]
    assert not thread.is_alive()
    assert threads == {thread.name}
    assert len(gathered) == 3


def test_a_training_computes_the_same_wherever_its_images_lie(tmp_path: Path) -> None:
    progressive = replace(TINY.train.progressive, sizes=(16, 32), reset_batchnorm=True)
    train: TrainConfig = replace(TINY.train, epochs=2, batch_size=16, accumulate=3, progressive=progressive)
    config = TrialConfig(model=MODEL, train=train, data=DataConfig(class_weights="balanced"))
    results = []
    for place in ("device", "host"):
        where = part(place)  # type: ignore[arg-type]
        engine = Engine(config, context(str(tmp_path), tmp_path), numerics_of(train, "cpu"), where)
        engine.batches.pixels_at_once = 12 * 32**2
        losses = [engine.run_epoch(epoch).train_loss for epoch in (1, 2)]
        score = engine.score(replace(where, indices=where.indices[:33]))
        results.append((losses, score, engine.tensors()))
    (losses, score, tensors), (others, other_score, other_tensors) = results
    assert losses == others
    assert score == other_score
    assert all(torch.equal(tensor, other_tensors[name]) for name, tensor in tensors.items())


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[tuple[DataConfig, str]]:
    config = DataConfig(name="folder", root=str(write_classes(tmp_path / "root", {"a": 4, "b": 4})), cache_size=16)
    yield config, str(tmp_path / "cache")
    data._kept.cache_clear()


def test_on_the_cpu_images_stay_a_mapped_file(folder: tuple[DataConfig, str], monkeypatch: pytest.MonkeyPatch) -> None:
    mapped: list[np.ndarray] = []
    read = arrays.read
    monkeypatch.setattr(data.arrays, "read", lambda place: _noted(read(place), mapped))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train, validation = data.train_and_validation(*folder, "cpu")
    array = mapped[-1]
    assert isinstance(array, np.memmap)
    assert train.images.data_ptr() == validation.images.data_ptr() == array.ctypes.data
    assert train.place == "device"


def _noted(found: Any, mapped: list[np.ndarray]) -> Any:
    mapped.append(found[0])
    return found


def test_images_that_stay_on_the_host_are_said_once_per_process(
    folder: tuple[DataConfig, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "place_of", lambda *facts: "host")
    with pytest.warns(Notice, match=r"stay in the memory of the host, and each batch is sent to cpu ahead") as said:
        twice = [data.train_and_validation(*folder, "cpu", 0.5) for _ in range(2)]
    assert len(said) == 1
    assert {part.place for parts in twice for part in parts} == {"host"}


class FakeCuda:
    """Stands for torch.cuda: notes in order what the streams and the host are told. The work itself is done at once."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self._events = iter(("sent 0", "read 0", "sent 1", "read 1"))

    def current_stream(self, device: Any) -> FakeStream:
        return FakeStream(self.log, "main")

    def Stream(self, device: Any) -> FakeStream:
        return FakeStream(self.log, "side")

    def Event(self) -> FakeEvent:
        return FakeEvent(self.log, next(self._events))

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        self.log.append(f"{stream.name} copies")
        yield


@dataclass
class FakeStream:
    log: list[str]
    name: str

    def wait_event(self, event: FakeEvent) -> None:
        self.log.append(f"{self.name} waits for {event.name}")


@dataclass
class FakeEvent:
    log: list[str]
    name: str

    def record(self, stream: FakeStream) -> None:
        self.log.append(f"{stream.name} reaches {self.name}")

    def synchronize(self) -> None:
        self.log.append(f"host waits for {self.name}")


def test_on_a_gpu_no_buffer_is_written_before_it_was_read_and_none_read_before_it_was_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCuda()
    prepare = images._Lane.__init__
    monkeypatch.setattr(images._Lane, "__init__", lambda lane, shape, **memory: prepare(lane, shape))
    monkeypatch.setattr(torch, "cuda", cuda)
    monkeypatch.setattr(images, "_Lane", lambda shape: images._CudaLane(shape, torch.device("cpu")))
    pixels = part("host").images
    groups = part("host").groups(torch.arange(60), [10, 20, 30])
    for number, group in enumerate(groups):
        cuda.log.append(f"group {number} is used")
        assert torch.equal(group, pixels[[0, 10, 30][number] : [10, 30, 60][number]])
    copies = [
        [
            f"side waits for read {lane}",
            "side copies",
            f"side reaches sent {lane}",
            f"main waits for sent {lane}",
            f"host waits for sent {1 - lane}",
            f"group {number} is used",
            f"main reaches read {lane}",
        ]
        for number, lane in enumerate((0, 1, 0))
    ]
    copies[2].remove("host waits for sent 1")
    assert cuda.log == ["main reaches read 0", "main reaches read 1", *copies[0], *copies[1], *copies[2]]
