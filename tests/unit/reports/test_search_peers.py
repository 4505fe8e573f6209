"""The comparison with other search tools: the protocol, the simulator, child processes, and a file that grows."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hpo.search.samplers import make_sampler
from reports.benchmarks.search.lcbench import EPOCHS
from reports.benchmarks.search.peers import benchmark, environments, page, results
from reports.benchmarks.search.peers.adapters import baselines, own, with_optuna
from reports.benchmarks.search.peers.adapters.jobs import MAX_REPEATS, Job, Jobs
from reports.benchmarks.search.peers.benchmark import attempt, problem_of
from reports.benchmarks.search.peers.protocol import Peer, PeerError, Problem, Start
from reports.benchmarks.search.peers.registry import ENTRIES, ENVIRONMENTS, Entry, Recipe
from reports.benchmarks.search.peers.remote import Remote
from reports.benchmarks.search.peers.results import Results, Study
from reports.benchmarks.search.simulation import OwnSearch, simulate
from reports.benchmarks.search.virtual_time import Run, drive
from tests.conftest import REPOSITORY
from tests.support.peers import Scripted
from tests.unit.reports.test_search_benchmark import Peak

HALF = {"x": 0.5}
TASK: Any = Peak()
PROBLEM = problem_of(TASK, seed=0)
ADAPTERS = "reports.benchmarks.search.peers.adapters"


def test_random_search_with_asha_is_the_same_as_a_peer_and_in_a_child_process() -> None:
    sampler = make_sampler("random", seed=0, horizon=EPOCHS, distributions=TASK.distributions)
    expected = simulate(TASK, OwnSearch(sampler, TASK.distributions))
    with Remote(Path(sys.executable), f"{ADAPTERS}.own:random", "numpy", PROBLEM) as remote:
        runs = [drive(TASK, own.random(PROBLEM)), drive(TASK, remote)]
        assert remote.version == np.__version__
    for run in runs:
        assert run.trials == expected.trials
        for measure in ("known", "delivered"):
            mine, theirs = getattr(run, measure), getattr(expected, measure)
            assert mine.times.tolist() == theirs.times.tolist()
            assert mine.regrets.tolist() == theirs.regrets.tolist()


def test_a_paused_trial_goes_on_where_it_was_and_costs_only_its_new_epochs() -> None:
    peer = Scripted([Start(0, {"x": 0.3}, 10), Start(1, HALF, 5), Start(0, {"x": 0.3}, EPOCHS), Start(2, HALF, EPOCHS)])
    run = drive(TASK, peer, full_trainings=2, workers=1)  # 100 s; an epoch takes one
    assert [(trial, epoch) for trial, epoch, _ in peer.told] == [
        *((0, epoch) for epoch in range(1, 11)),
        *((1, epoch) for epoch in range(1, 6)),
        *((0, epoch) for epoch in range(11, EPOCHS + 1)),
        *((2, epoch) for epoch in range(1, 46)),
    ]
    assert run.trials == 3
    assert run.delivered.times.tolist() == [0.55], "10 + 5 + 40 s of 100"
    assert run.known.regret_at(0.1) == run.delivered.regret_at(0.55) == pytest.approx(0.0)


def test_a_free_worker_that_has_to_wait_gets_a_trial_with_the_next_value() -> None:
    peer = Scripted([Start(0, HALF, 50), None, Start(1, HALF, 2), Start(1, HALF, 50), None, None, Start(2, HALF, 50)])
    drive(TASK, peer, full_trainings=0.2, workers=2)  # 5 s
    assert [(trial, epoch) for trial, epoch, _ in peer.told] == [
        (0, 1),  # trial 1 begins now
        *((0, 2), (1, 1), (0, 3), (1, 2), (0, 4), (1, 3), (0, 5), (1, 4)),
    ]


@pytest.mark.parametrize(
    ("starts", "stops", "reason"),
    [
        ([Start(0, HALF, 2), Start(0, HALF, 4)], {0: 2}, "trial 0 was asked for, but it was stopped"),
        ([Start(0, HALF, 2), Start(0, HALF, 2)], {}, "until epoch 2; it has 2 of 50 epochs"),
        ([Start(0, HALF, 51)], {}, "until epoch 51"),
        ([Start(0, HALF, 2), Start(0, {"x": 0.6}, 4)], {}, "trial 0 came again with another configuration"),
        ([Start(0, HALF, 2)], {}, "nothing to train, and nothing runs"),
    ],
)
def test_a_search_that_breaks_a_rule_is_told_which(
    starts: list[Start | None], stops: dict[int, int], reason: str
) -> None:
    with pytest.raises(PeerError, match=reason):
        drive(TASK, Scripted(starts, stops), workers=1)


def test_a_running_trial_is_not_given_to_a_second_worker() -> None:
    with pytest.raises(PeerError, match="trial 0 was asked for, but it runs"):
        drive(TASK, Scripted([Start(0, HALF, 2), Start(0, HALF, 4)]), workers=2)


@pytest.mark.parametrize(
    ("factory", "seconds", "reason"),
    [
        ("tests.support.peers:dying", 60.0, "its process ended with exit code 3: the last words"),
        ("tests.support.peers:hanging", 5.0, "its process gave no answer in 5 s"),
        ("tests.support.peers:raising", 60.0, "ValueError: no more ideas"),
        ("tests.support.peers_that_are_not:any", 60.0, "ModuleNotFoundError: No module named"),
    ],
)
def test_a_child_that_dies_or_hangs_gives_its_reason(factory: str, seconds: float, reason: str) -> None:
    with (
        pytest.raises(PeerError, match=reason),
        Remote(Path(sys.executable), factory, "numpy", PROBLEM, seconds) as remote,
    ):
        drive(TASK, remote)


def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="python cannot be started: No such file"):
        Remote(tmp_path / "python", "tests.support.peers:dying", "numpy", PROBLEM)


def test_what_a_tool_prints_is_no_answer() -> None:
    with Remote(Path(sys.executable), "tests.support.peers:talking", "numpy", PROBLEM) as remote:
        assert drive(TASK, remote, full_trainings=2, workers=1).trials == 3
    assert remote._process.poll() is not None


def test_a_child_imports_nothing_heavy_of_this_project() -> None:
    code = "import reports.benchmarks.search.peers.child, sys; print({'numpy', 'torch', 'hpo'} & set(sys.modules))"
    assert os.popen(f'{sys.executable} -c "{code}"').read() == "set()\n"


def jobs(*asked: tuple[float, int]) -> tuple[Jobs, list[tuple[int, float]]]:
    """Evaluations of x and epochs in this order, and what the tool gets."""
    told: list[tuple[int, float]] = []
    queue = iter([Job(number, {"x": x}, epochs) for number, (x, epochs) in enumerate(asked)])
    return Jobs(EPOCHS, lambda: next(queue, None), lambda number, value: told.append((number, value))), told


def test_evaluations_of_one_configuration_are_one_trial_that_pauses() -> None:
    peer, told = jobs((0.3, 2), (0.5, 2), (0.3, 6), (0.3, 6), (0.3, 3))
    assert peer.ask(0.0) == Start(0, {"x": 0.3}, 2)
    assert [peer.tell(0, 1, 0.1), peer.tell(0, 2, 0.2)] == ["continue", "pause"]
    assert peer.ask(0.0) == Start(1, {"x": 0.5}, 2)
    assert peer.ask(0.0) == Start(0, {"x": 0.3}, 6)
    assert peer.ask(0.0) == Start(2, {"x": 0.3}, 6), "in training, so another trial of the same"
    for epoch in range(3, 7):
        peer.tell(0, epoch, epoch / 10)
    assert told == [(0, 0.2), (2, 0.6)]


def test_an_evaluation_whose_value_is_known_trains_nothing() -> None:
    peer, told = jobs((0.3, 2), (0.3, 1), (0.5, 1))
    peer.ask(0.0)
    peer.tell(0, 1, 0.1)
    peer.tell(0, 2, 0.2)
    assert peer.ask(0.0) == Start(1, {"x": 0.5}, 1)
    assert told == [(0, 0.2), (1, 0.1)]


def test_a_tool_that_repeats_itself_for_ever_is_stopped() -> None:
    peer, _ = jobs((0.3, 1), *[(0.3, 1)] * MAX_REPEATS)
    peer.ask(0.0)
    peer.tell(0, 1, 0.1)
    with pytest.raises(PeerError, match="evaluations in a row"):
        peer.ask(0.0)


@pytest.mark.parametrize("make", [with_optuna.tpe_hyperband, with_optuna.tpe_halving, with_optuna.gp_halving])
def test_optunas_searches_prune_and_are_the_same_with_the_same_seed(make: Callable[[Problem], Peer]) -> None:
    runs = [drive(TASK, make(PROBLEM), full_trainings=8) for _ in range(2)]
    assert runs[0].trials == runs[1].trials > 12, "unpruned there would be twelve"
    assert runs[0].known.regrets.tolist() == runs[1].known.regrets.tolist()


def test_the_baselines_train_one_epoch_then_the_best_and_all_to_the_end() -> None:
    run = drive(TASK, baselines.one_epoch(PROBLEM))
    assert run.trials == 400, "half of 800 epochs"
    assert run.delivered.regret_at(0.74) == 1.0
    assert run.delivered.regret_at(0.76) == run.known.regrets[-1]
    assert drive(TASK, baselines.to_the_end(PROBLEM)).trials == 20


ENTRY = Entry("random", "own:random", "numpy", "random")


def test_a_killed_comparison_continues_and_makes_no_study_twice(tmp_path: Path) -> None:
    file = tmp_path / "peers.json"
    attempt(ENTRY, [TASK], range(1), None, results.read(file), file)
    first = file.read_text()
    found = results.read(file)
    attempt(ENTRY, [TASK], range(2), None, found, file)
    assert [(one.task, one.seed) for one in results.read(file).studies] == [("peak", 0), ("peak", 1)]
    assert results.read(file).studies[0] == Study(**json.loads(first)["studies"][0])
    assert results.read(file).versions == {"random": f"numpy {np.__version__}"}


def test_a_search_that_cannot_be_run_is_named_and_tried_again(tmp_path: Path) -> None:
    file, found = tmp_path / "peers.json", Results()
    lost = Entry("smac", "with_smac:multi_fidelity", "smac", "forest", "smac")
    attempt(lost, [TASK], range(2), tmp_path, found, file)
    assert "no complete environment" in results.read(file).failed["smac"]
    assert "- smac ended early: " in page.table(found)
    (tmp_path / "smac.failed").write_text("No matching distribution")
    attempt(lost, [TASK], range(2), tmp_path, found, file)
    assert results.read(file).failed["smac"] == "its environment could not be made: No matching distribution"


def test_studies_of_the_other_benchmark_are_taken_over_and_only_the_right_ones(tmp_path: Path) -> None:
    published = REPOSITORY / "reports" / "benchmarks" / "search" / "search.json"
    found = results.taken_over(published)
    assert {name: len(found.of(name)) for name in ("gp", "random", "stock", "full")} == {
        **dict.fromkeys(("gp", "random", "stock"), 60),
        "full": 0,
    }
    with pytest.raises(SystemExit, match="not of the linear scale"):
        results.taken_over(published.with_name("log.json"))


def test_an_environment_that_cannot_be_made_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    failure = environments.make(tmp_path, "x", Recipe(("no-such-package-of-anyone",)))
    assert failure is not None
    assert "no-such-package-of-anyone" in failure
    assert environments.missing(tmp_path, "x") == f"its environment could not be made: {failure}"
    assert environments.make(tmp_path, "x", Recipe((), borrows=True)) is None
    assert environments.missing(tmp_path, "x") is None
    assert environments.make(tmp_path, "x", Recipe((), borrows=True)) is None, "left alone"
    with pytest.raises(SystemExit):
        environments.main(["--folder", str(tmp_path), "no-such"])


def test_the_table_equals_a_calculation_by_hand_and_compares_equal_seeds(tmp_path: Path) -> None:
    def one(peer: str, task: str, seed: int, regret: float) -> Study:
        return Study(peer, task, seed, [regret] * 3, [1.0, regret + 0.1, regret + 0.1], 10, 1.0)

    found = Results({"gp": "x 1", "random": "x 1"}, {"smac": "no"})
    found.studies = [
        *(one("gp", task, seed, 0.1) for task in "ab" for seed in (0, 1)),
        one("random", "a", 0, 0.38),
        one("random", "b", 0, 0.42),
    ]
    text = page.table(found)
    assert "| random | 1.000 ± 0.000 | 0.500 ± 0.020 | 0.500 ± 0.020 | 0.000 ± 0.000 | **0.300 ± 0.020** |" in text
    assert "| gp | 0.100 ± 0.000 | 0.100 ± 0.000 | 0.100 ± 0.000 | - | - | - |" in text
    assert "- delivered at 20%: gp is better by more than two standard errors than 0 of 1; not than: random" in text
    assert "- delivered at 50%: gp is better by more than two standard errors than 1 of 1; not than: none" in text
    page.plot(found, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_every_entry_names_an_environment_that_can_be_made() -> None:
    assert {entry.environment for entry in ENTRIES if entry.environment} == set(ENVIRONMENTS)
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.environment], ids=lambda entry: entry.name)
def test_a_tool_of_others_finds_a_simple_peak(entry: Entry) -> None:
    folder = os.environ.get("HPO_TEST_PEERS")
    assert entry.environment is not None
    if folder is None or (reason := environments.missing(Path(folder), entry.environment)):
        pytest.skip("HPO_TEST_PEERS names no folder of environments" if folder is None else str(reason))
    runs: list[Run] = []
    for _ in range(2):
        with Remote(entry.python(Path(folder)), entry.factory, entry.package, PROBLEM) as remote:
            runs.append(drive(TASK, remote, full_trainings=8))
    assert runs[0].known.regret_at(1.0) < 0.3
    assert runs[0].known.regrets.tolist() == runs[1].known.regrets.tolist(), "the seed decides"


def test_the_command_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(["--json", "x.json"])
    assert stopped.value.code == 2
    assert "--model" in capsys.readouterr().err
