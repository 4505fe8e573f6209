"""One bad node must not eat a study: the rule that leaves a node, through the conductor and without Ray."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import optuna
import pytest

from hpo.driver.conductor import Conductor
from hpo.driver.decisions.nodes import Place
from hpo.driver.session import succeeded
from hpo.errors import InfrastructureError, NoTrialSucceeded
from hpo.ledger.outcome import Cause
from hpo.ledger.reader import load_study
from hpo.ledger.records import StudyRecord
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import create, reopen
from trainers.api import EpochMetrics

HOSTS = ("a", "b", "c", "d")
NO_DATA = "FileNotFoundError: /data/train.bin"


class Cluster:
    """Nodes that train one trial each, in turn; those of `faults` fail it at once."""

    def __init__(self, conductor: Conductor, hosts: tuple[str, ...], seed: int = 0) -> None:
        self.conductor, self.hosts, self.random = conductor, hosts, random.Random(seed)
        self.at_work: dict[str, int] = {}

    def place(self, host: str) -> Place:
        return Place(host, host, frozenset(self.hosts) - {host})

    def run(self, fault: Callable[[str, int], tuple[str, Cause] | None], most: int = 10_000) -> None:
        """Until the study ends; a node that fails its trial is ready for the next one sooner than the others."""
        for _ in range(most):
            for host in self.hosts:
                free = host not in self.at_work and host not in self.conductor.left_nodes
                if free and (assignment := self.conductor.next_trial()):
                    self.at_work[host] = assignment.number
            if not self.at_work:
                return
            failing = [host for host, number in self.at_work.items() if fault(host, number)]
            host = self.random.choice(failing or list(self.at_work))
            self.step(host, fault(host, self.at_work[host]))
        raise AssertionError("the study does not end")

    def step(self, host: str, trouble: tuple[str, Cause] | None) -> None:
        number = self.at_work[host]
        if trouble and not self.conductor.ledger.trial(number).epochs:
            del self.at_work[host]
            self.conductor.on_failure(number, *trouble, self.place(host))
            return
        self.conductor.on_placed(number, host, "cpu", 1, host)
        epoch = len(self.conductor.ledger.trial(number).epochs) + 1
        if not self.conductor.on_epoch(number, EpochMetrics(epoch=epoch, val_accuracy=0.5)):
            del self.at_work[host]


def begun(trials: int = 100, **changes: Any) -> tuple[Conductor, list[str]]:
    spec = synthetic_spec(
        budget={"trials": trials}, train={"epochs": 2, "progressive": {"stages": 1}}, asha={"enabled": False}, **changes
    )
    texts: list[str] = []
    storage = optuna.storages.InMemoryStorage()
    return Conductor(create(storage, spec), listener=lambda event: texts.append(event.text)), texts


def closed(conductor: Conductor) -> StudyRecord:
    conductor.close()
    return conductor.ledger.study


@pytest.mark.parametrize("cause", [Cause.MACHINE, Cause.UNCLEAR])
def test_one_bad_host_among_four_costs_no_trial_of_a_hundred(cause: Cause) -> None:
    conductor, texts = begun()
    Cluster(conductor, HOSTS).run(lambda host, number: (NO_DATA, cause) if host == "b" else None)
    study = closed(conductor)
    assert study.count("complete") == 100
    (left,) = study.left_nodes
    assert (left.host, left.proved) == ("b", False)
    assert "2 trials in a row failed before their first report" in left.reason
    put_back = [trial for trial in study.trials if len(trial.attempts) > 1]
    assert len(put_back) == 2
    assert all(trial.attempts[0].put_back and NO_DATA in (trial.attempts[0].lost or "") for trial in put_back)
    assert sum("b gets no more trials, and its trials are put back" in text for text in texts) == 1


def test_trials_that_fail_on_every_host_are_their_own_fault_and_no_host_is_left() -> None:
    """A third of the configurations fail at the start everywhere."""
    conductor, _ = begun()
    Cluster(conductor, HOSTS).run(lambda host, number: ("ValueError: x", Cause.UNCLEAR) if number % 3 == 1 else None)
    study = closed(conductor)
    assert study.count("failed") == 33
    assert study.count("complete") == 67
    assert all(trial.number % 3 == 1 for trial in study.trials if trial.status == "failed")
    assert max(len(trial.attempts) for trial in study.trials) <= 2


def test_a_study_that_fails_everywhere_still_stops_early() -> None:
    conductor, _ = begun()
    Cluster(conductor, HOSTS).run(lambda host, number: ("ValueError: x", Cause.UNCLEAR))
    assert (conductor.ending or "").startswith("stop_after_failures: ")
    assert sum(trial.started for trial in conductor.ledger.trials) <= 12
    study = closed(conductor)
    assert study.count("interrupted"), "trials that wait for a verdict on their node"
    with pytest.raises(NoTrialSucceeded, match=r"no trial of synthetic succeeded: trial [0-9]+ failed: ValueError: x"):
        succeeded(study)


@pytest.mark.parametrize("cause", [Cause.CONFIGURATION, Cause.TRAINER])
def test_a_failure_that_no_node_can_cause_is_final_at_once(cause: Cause) -> None:
    conductor, _ = begun()
    cluster = Cluster(conductor, HOSTS)
    for _ in range(2):
        assignment = conductor.next_trial()
        assert assignment is not None
        conductor.on_failure(assignment.number, "OutOfMemory: 300 px", cause, cluster.place("a"))
    assert conductor.ledger.study.count("failed") == 2
    assert conductor.left_nodes == frozenset()


def test_a_failure_on_the_only_node_is_final_at_once() -> None:
    conductor, _ = begun()
    assignment = conductor.next_trial()
    assert assignment is not None
    conductor.on_failure(assignment.number, NO_DATA, Cause.MACHINE, Place("a", "a"))
    assert conductor.ledger.study.count("failed") == 1


def test_a_node_that_trains_the_next_trial_is_not_to_blame() -> None:
    conductor, _ = begun()
    cluster = Cluster(conductor, ("a", "b"))
    for trouble in (("ValueError: x", Cause.UNCLEAR), None):
        assignment = conductor.next_trial()
        assert assignment is not None
        cluster.at_work["a"] = assignment.number
        cluster.step("a", trouble)
    failed, sound = conductor.ledger.trials[:2]
    assert (failed.status, sound.status) == ("failed", "running")
    assert failed.outcome is not None
    assert (failed.outcome.reason, failed.outcome.cause) == ("ValueError: x", Cause.UNCLEAR)


def test_the_last_trial_of_a_study_runs_elsewhere_where_it_fails_at_the_start() -> None:
    conductor, _ = begun(trials=1)
    assignment = conductor.next_trial()
    assert assignment is not None
    conductor.on_failure(assignment.number, NO_DATA, Cause.MACHINE, Place("a", "a", frozenset("b")))
    assert not conductor.exhausted
    assert conductor.next_trial() == assignment
    assert conductor.left_nodes == {"a"}
    conductor.on_failure(assignment.number, NO_DATA, Cause.MACHINE, Place("b", "b", frozenset("a")))
    assert [trial.status for trial in closed(conductor).trials] == ["failed"]


@pytest.mark.parametrize("hosts", ["ab", "abc", "abcd"])
@pytest.mark.parametrize("seed", range(5))
def test_the_last_trials_end_where_they_fail_on_every_node(hosts: str, seed: int) -> None:
    """All nodes are in doubt at once, but they are never all avoided: a trial would wait for a node for ever."""
    conductor, _ = begun(trials=len(hosts), stop_after_failures=0)
    cluster = Cluster(conductor, tuple(hosts), seed)
    for _ in range(200):
        for host in cluster.random.sample(hosts, len(hosts)):
            conductor.check_nodes(hosts)
            if host not in cluster.at_work | dict.fromkeys(conductor.left_nodes):
                assignment = conductor.next_trial()
                assert conductor.left_nodes < set(hosts)
                if assignment is not None:
                    free = [node for node in hosts if node not in cluster.at_work and node not in conductor.left_nodes]
                    cluster.at_work[host if host in free else free[0]] = assignment.number
        if not cluster.at_work:
            break
        cluster.step(cluster.random.choice(list(cluster.at_work)), ("ValueError: x", Cause.UNCLEAR))
    assert conductor.exhausted
    assert closed(conductor).count("failed") == len(hosts)


def test_the_last_trial_fails_for_good_where_every_other_node_lacks_something() -> None:
    conductor, _ = begun(trials=1)
    assignment = conductor.next_trial()
    assert assignment is not None
    conductor.on_lacking(assignment.number, "has no data", Place("a", "a", frozenset("bc")))
    assert conductor.next_trial() == assignment
    conductor.on_failure(assignment.number, "ValueError: x", Cause.UNCLEAR, Place("b", "b", frozenset("ac")))
    assert conductor.next_trial() == assignment
    assert conductor.left_nodes == {"a", "b"}
    conductor.on_failure(assignment.number, "ValueError: x", Cause.UNCLEAR, Place("c", "c", frozenset("ab")))
    assert conductor.exhausted
    assert closed(conductor).count("failed") == 1


def test_two_bad_hosts_among_four_cost_no_trial_either() -> None:
    conductor, _ = begun()
    Cluster(conductor, HOSTS).run(lambda host, number: (NO_DATA, Cause.UNCLEAR) if host in "ab" else None)
    study = closed(conductor)
    assert study.count("complete") == 100
    assert {left.host for left in study.left_nodes} == {"a", "b"}


def test_a_node_whose_workers_die_at_the_start_is_left_too() -> None:
    conductor, _ = begun(retries=0)
    for _ in range(2):
        assignment = conductor.next_trial()
        assert assignment is not None
        conductor.on_lost(assignment.number, "killed", Place("a", "a", frozenset("b")))
    assert conductor.left_nodes == {"a"}
    Cluster(conductor, ("b",)).run(lambda host, number: None)
    assert closed(conductor).count("complete") == 100


def test_a_node_that_has_gone_does_not_clear_the_one_that_was_left() -> None:
    conductor, _ = begun()
    for _ in range(2):
        assignment = conductor.next_trial()
        assert assignment is not None
        conductor.on_failure(assignment.number, NO_DATA, Cause.MACHINE, Place("a", "a", frozenset("bc")))
    again = conductor.next_trial()
    assert again is not None
    conductor.on_lost(again.number, "its node has gone")
    assert conductor.left_nodes == {"a"}


def test_a_node_that_lacks_the_trainer_puts_its_trial_back_and_counts_no_attempt() -> None:
    conductor, texts = begun(trials=2, retries=0)
    first = conductor.next_trial()
    assert first is not None
    conductor.on_lacking(first.number, "cannot import the trainer", Place("a", "a", frozenset("b")))
    assert [(node.host, node.proved) for node in conductor.ledger.study.left_nodes] == [("a", True)]
    again = conductor.next_trial()
    assert again == first
    conductor.on_lost(first.number, "killed", Place("b", "b"))
    assert conductor.ledger.trial(first.number).status == "failed"
    assert any("a gets no more trials, and its trials are put back: a cannot import" in text for text in texts)


def test_where_no_node_can_train_the_study_stops_and_no_trial_fails() -> None:
    storage = optuna.storages.InMemoryStorage()
    spec = synthetic_spec(budget={"trials": 9})
    conductor = Conductor(create(storage, spec))
    for host, other in (("a", "b"), ("b", "a")):
        assignment = conductor.next_trial()
        assert assignment is not None
        assert conductor.stopping is None
        conductor.on_lacking(assignment.number, "has no data", Place(host, host, frozenset(other)))
    with pytest.raises(InfrastructureError, match="no node can train; a has no data; b has no data"):
        conductor.close()
    study = load_study(storage, spec.study)
    assert study.count("failed") == 0
    assert {node.host for node in study.left_nodes} == {"a", "b"}

    resumed = Conductor(reopen(storage, spec))
    assert load_study(storage, spec.study).left_nodes == (), "the next driver has it proved again"
    Cluster(resumed, ("a", "b")).run(lambda host, number: None)
    study = closed(resumed)
    assert study.count("complete") == 9
    assert [trial.number for trial in study.trials] == list(range(9))


def test_a_left_node_is_used_again_where_no_other_is_there() -> None:
    conductor, texts = begun()
    for _ in range(2):
        assignment = conductor.next_trial()
        assert assignment is not None
        conductor.on_failure(assignment.number, NO_DATA, Cause.MACHINE, Place("a", "a", frozenset("b")))
    assert conductor.left_nodes == {"a"}
    conductor.check_nodes(["a"])
    assert conductor.left_nodes == frozenset()
    assert any("a gets trials again" in text for text in texts)


def test_a_trial_never_avoids_the_only_node_that_is_there() -> None:
    """It fails on `a` while `b` is there, too; then `b` ends, and nothing else is to do."""
    from hpo.driver.ray_backend.searcher import StudySearcher

    conductor, _ = begun(trials=1)
    searcher = StudySearcher(conductor, "/checkpoints", {}, lambda: {"a": 1})
    first = searcher.suggest("1")
    assert isinstance(first, dict)
    conductor.on_failure(first["number"], NO_DATA, Cause.MACHINE, Place("a", "a", frozenset("b")))
    again = searcher.suggest("2")
    assert isinstance(again, dict)
    assert (again["number"], again["avoid"]) == (first["number"], [])


def test_a_trial_that_trains_on_a_left_node_takes_no_room_on_the_others() -> None:
    from hpo.driver.ray_backend.searcher import StudySearcher

    conductor, _ = begun()
    searcher = StudySearcher(conductor, "/checkpoints", {}, lambda: {"a": 3, "b": 1})
    first, *others = (searcher.suggest(name) for name in "123")
    assert isinstance(first, dict)
    conductor.on_placed(first["number"], "a", "cpu", 1, "a")
    assert conductor.on_epoch(first["number"], EpochMetrics(epoch=1, val_accuracy=0.5))
    for job in others:
        assert isinstance(job, dict)
        conductor.on_placed(job["number"], "a", "cpu", 1, "a")
        conductor.on_failure(job["number"], NO_DATA, Cause.MACHINE, Place("a", "a", frozenset("b")))
    assert conductor.left_nodes == {"a"}
    again = searcher.suggest("4")
    assert isinstance(again, dict), "b is free"
    assert again["number"] in (1, 2)
    assert searcher.suggest("5") is None, "b is full"


class RaysTrials:
    """Ray's controller as a scheduler sees it."""

    def __init__(self, *trials: Any) -> None:
        self.trials = trials

    def get_trials(self) -> list[Any]:
        return list(self.trials)

    def get_live_trials(self) -> set[Any]:
        return {trial for trial in self.trials if trial.status in ("PENDING", "RUNNING")}

    def stop_trial(self, trial: Any) -> None:
        trial.status = "TERMINATED"


class RaysTrial:
    def __init__(self, config: Any, status: str = "PENDING") -> None:
        self.config, self.status = config, status


def test_a_trial_that_waits_for_a_node_that_has_gone_is_handed_out_anew() -> None:
    """`a` is left, and `b` ends between the choice of a trial and its start."""
    from hpo.driver.ray_backend.scheduler import StudyScheduler
    from hpo.driver.ray_backend.searcher import StudySearcher

    conductor, _ = begun(trials=3)
    there = {"a": 1, "b": 1}
    searcher = StudySearcher(conductor, "/checkpoints", {}, lambda: there)
    scheduler = StudyScheduler(conductor, lambda: there)
    for name in "12":
        job = searcher.suggest(name)
        assert isinstance(job, dict)
        conductor.on_failure(job["number"], NO_DATA, Cause.MACHINE, Place("a", "a", frozenset("b")))
    job = searcher.suggest("3")
    assert isinstance(job, dict)
    assert job["avoid"] == ["a"]
    trial = RaysTrial(job)
    assert scheduler.choose_trial_to_run(RaysTrials(trial)) is trial
    del there["b"]
    assert scheduler.choose_trial_to_run(RaysTrials(trial)) is None
    assert (trial.status, conductor.running) == ("TERMINATED", 0)
    again = searcher.suggest("4")
    assert isinstance(again, dict)
    assert (again["number"], again["avoid"]) == (job["number"], [])
    attempt = conductor.ledger.trial(job["number"]).attempts[-2]
    assert (attempt.lost, attempt.put_back) == ("the nodes that it could begin on have gone", True)
    running = RaysTrial(job, "RUNNING")
    scheduler.choose_trial_to_run(RaysTrials(running))
    assert running.status == "RUNNING"


def test_a_study_that_stops_while_a_trial_waits_for_a_verdict_continues_with_it() -> None:
    storage = optuna.storages.InMemoryStorage()
    spec = synthetic_spec(budget={"trials": 3})
    conductor = Conductor(create(storage, spec))
    assignment = conductor.next_trial()
    assert assignment is not None
    conductor.on_failure(assignment.number, NO_DATA, Cause.MACHINE, Place("a", "a", frozenset("b")))
    conductor.stop("SIGTERM")
    assert conductor.exhausted
    conductor.close()
    assert [trial.status for trial in conductor.ledger.trials if trial.started] == ["interrupted"]
    again = Conductor(reopen(storage, spec)).next_trial()
    assert again == assignment
