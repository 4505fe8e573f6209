"""The GPU benchmark divides its time, outlives its sections, and says what is missing; no GPU and no training here."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from reports.benchmarks.gpu import command, mps, page, to_accuracy
from reports.benchmarks.gpu.plan import SPEEDS, Section, allowance, sections
from reports.benchmarks.gpu.processes import Ended, Processes
from reports.benchmarks.gpu.record import Record
from reports.benchmarks.gpu.settings import Settings
from reports.benchmarks.training import benchmark, contenders
from tests.support import tape
from tests.unit.reports.test_training_benchmark import CASE, row

FOLDER = Path(page.__file__).parent


def settings(**changes: Any) -> Settings:
    known = {"device": "cuda", "tiny": False, "root": "data", "scratch": "unused", "cores": 16}
    return Settings(**{**known, **changes})


def test_eight_minutes_are_enough_for_every_section_and_the_first_one_begins_with_the_graphs() -> None:
    queue, left = sections(settings()), 440.0
    assert queue[0].name == "tests of graphs"
    assert [one.arguments["size"] for one in queue if "speed" in one.name][:2] == [64, 128]
    while queue:
        seconds = allowance(left, queue)
        assert seconds >= queue[0].least
        left -= seconds
        queue.pop(0)
    assert left == pytest.approx(0, abs=1e-6)


def test_unused_time_goes_to_later_sections_and_too_little_skips_one() -> None:
    queue = [Section("a", "m", least=10, weight=30), Section("b", "m", least=20, weight=10)]
    assert allowance(100, queue) == 75
    assert allowance(100, queue[1:]) == 100
    assert allowance(12, queue) == 10
    assert allowance(19, queue[1:]) == 0
    absent = Section("c", "m", least=0, weight=1000, absent="no data")
    assert allowance(100, [*queue, absent]) == 75


def test_a_training_without_cifar_says_so() -> None:
    (training,) = [one for one in sections(settings(root=None)) if one.name == "training"]
    assert training.absent == "--root names no folder with CIFAR-10"


def test_the_epochs_of_the_training_fit_into_its_time() -> None:
    assert to_accuracy.fitting(115, 10_000, 45_000) == 18
    assert to_accuracy.fitting(20, 10_000, 45_000) == 10
    assert to_accuracy.fitting(10_000, 10_000, 45_000) == 60


@pytest.fixture(scope="module")
def processes() -> Processes:
    return Processes(preloaded=[])


@pytest.mark.parametrize(
    ("how", "state", "why"),
    [("finish", "complete", ""), ("fail", "failed", "exit code 1"), ("crash", "failed", "signal 11")],
)
def test_a_section_that_breaks_leaves_its_results_and_its_last_words(
    how: str, state: str, why: str, processes: Processes
) -> None:
    results: dict[str, Any] = {}
    ended = processes.run("tests.support.odd_section", settings(), 60, {"how": how}, results.__setitem__)
    assert (ended.state, why in ended.why) == (state, True)
    assert results["first"] == {"how": how}
    assert ("last" in results) == (how == "finish")
    assert how != "fail" or ended.lines[-1] == "ValueError: this went wrong"


def test_a_section_that_stands_still_is_ended_with_all_that_it_started(processes: Processes) -> None:
    results: dict[str, Any] = {}
    ended = processes.run("tests.support.odd_section", settings(), 12, {"how": "hang"}, results.__setitem__)
    assert (ended.state, ended.why) == ("stopped", "its time of 12 s was over")
    child = results["child"]["pid"]
    deadline = time.monotonic() + 30
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_cut_record_says_what_it_lacks(tmp_path: Path) -> None:
    shown = {"minutes": 8.0, "device": "cuda", "tiny": False, "cifar": True}
    record = Record(tmp_path / "gpu.json", shown, {}, ["tests of graphs", "speed", "training", "several trials"])
    record.begin("tests of graphs", 90)
    record.add("tests of graphs", "test_a", {"outcome": "passed", "seconds": 1.0})
    record.add("tests of graphs", "test_b", {"outcome": "failed", "why": "assert 1 == 2\nE  by one bit"})
    record.end("tests of graphs", Ended("complete"), 12.3)
    record.begin("speed", 50)
    measured = row(limit=[100.0], engine=[395.0], peer=[50.0])
    record.add("speed", "row", {**measured.record(), "case": {**measured.record()["case"]}})
    record.add("several trials", "sharing", {"mps": False, "why": "no such program", "model": "m", "size": 64})
    record.add("several trials", "processes", {"asked": 4, "ready": 2, "cuda_graphs": False})
    record.add("several trials", "round 1", {"images_per_second": {"1": 100.0, "2": 150.0}})
    text = page.write(tmp_path / "gpu.json").read_text()
    assert "1 failed, 1 passed." in text
    assert "- `test_b`: failed. E  by one bit" in text
    assert "| speed | cut with the command |" in text
    assert "| training | not run |" in text
    assert "| cpu | test_efficientnet | 32 | engine | 395.0 | 395.0 to 395.0 | 3.950 | 7.90 |" in text
    assert "| 2 | 150 | 1.50 | 1 |" in text
    assert "m at 64 px, without NVIDIA's MPS: no such program. **Without CUDA graphs" in text
    assert "| 3 | not measured |" in text
    assert text.count("| not measured |") >= len(SPEEDS)
    assert not list(tmp_path.glob(".gpu*")), "no half-written file stays"


def test_the_published_page_is_that_of_the_published_result() -> None:
    content = json.loads((FOLDER / "gpu.json").read_text())
    curve = FOLDER / "gpu.png"
    assert (FOLDER / "gpu.md").read_text() == page.render(content, curve.name if curve.exists() else None)


def test_rows_come_back_from_their_record() -> None:
    measured = row(**{"limit": [100, 10], "graph limit": [400, 50], "engine": [390, 45], "peer": [45, 3]})
    again = benchmark.Row.of(json.loads(json.dumps(measured.record())))
    assert again.images_per_second == measured.images_per_second
    text = benchmark.table([again], None, [("cuda", "x", 9)])
    assert "| of the limit | of the graph limit | of the peer | peak memory |" in text
    assert "| engine | 217.5 | 45.0 to 390.0 | 4.200 | 0.938 | 11.83 | 3 MiB |" in text
    widths = {line.count("|") for line in text.splitlines()}
    assert len(widths) == 1


def test_the_bare_step_can_be_recorded(tmp_path: Path) -> None:
    """It computes with tensors only: its speed as a graph is that of a real step."""
    sizes = []

    def record(work: Any, size: int) -> Any:
        sizes.append(size)
        return tape.record(work, size)

    case = contenders.replace(CASE, cache_dir=str(tmp_path))
    assert contenders.limit(case, record)() > 0
    assert sizes == [CASE.size]


def test_an_engine_that_would_not_record_does_not_measure_graphs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = contenders.replace(CASE, cache_dir=str(tmp_path))
    config = case.config(cuda_graphs=True)
    contenders.Refusals.of(config, contenders.numerics_of(config.train, "cpu"), case.cache_dir).add("it waits")
    with pytest.raises(contenders.failed("x", "y").__class__, match="as an earlier attempt has shown"):
        contenders.engine(case, cuda_graphs=True)()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--device cpu", "add --tiny"),
        ("--device tpu", "cuda, cuda:N or cpu"),
        ("--minutes 0", "above 0"),
        ("--root /nowhere", "no folder cifar-10-batches-py"),
        ("--json /nowhere/gpu.json", "its folder is not there"),
    ],
)
def test_wrong_options_end_at_once(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(words.split())
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_page_of_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_text("{}")
    assert command.main(["--page", str(tmp_path / "x.json")]) == 2
    assert command.main(["--page", str(tmp_path / "missing.json")]) == 2
    assert "no result of this command" in capsys.readouterr().err


MPS = """#!/bin/bash
[ "$1" = -d ] && { echo started "$CUDA_MPS_PIPE_DIRECTORY" >> LOG; exit CODE; }
read -r said
echo "$said" >> LOG
"""


@pytest.mark.parametrize(("code", "computes"), [(0, True), (0, False), (1, True)])
def test_the_service_of_several_processes_is_ended_again(
    code: int, computes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, log = tmp_path / mps.CONTROL, tmp_path / "log.txt"
    program.write_text(MPS.replace("LOG", str(log)).replace("CODE", str(code)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    monkeypatch.setattr(mps, "_computes", lambda device, variables: computes)
    with mps.service("cuda", str(tmp_path)) as sharing:
        assert sharing.mps == (code == 0 and computes)
        assert bool(sharing.variables) == sharing.mps
    lines = log.read_text().splitlines()
    assert lines[0] == f"started {tmp_path}/mps/pipe"
    assert lines[1:] == ["quit"]
    assert not (tmp_path / "mps").exists()


def test_without_the_service_the_reason_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    with mps.service("cuda", str(tmp_path)) as sharing:
        assert (sharing.mps, sharing.said) == (False, f"there is no {mps.CONTROL} on this machine")
    with mps.service("cpu", str(tmp_path)) as sharing:
        assert not sharing.mps
