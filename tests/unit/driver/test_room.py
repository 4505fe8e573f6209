"""Where trials find room on a cluster: what is asked of Ray, nodes that join and leave, the parts of many studies."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from hpo.driver.conductor import Assignment, Conductor
from hpo.driver.ray_backend.slots import REFRESH_S, Node, Room, Slots, part
from hpo.driver.ray_backend.worker_loss import NodeWatch
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import create
from trainers.api import TrialConfig

GPU = Slots(cpus=1.0, gpus=0.5, device="cuda", concurrency=4)


class Cluster:
    """Ray's answers, counted, at a time that the test sets."""

    def __init__(self, *nodes: str) -> None:
        self.alive = list(nodes)
        self.dead: list[str] = []
        self.asked = 0
        self.now = 0.0

    def nodes(self) -> Sequence[Node]:
        self.asked += 1
        resources = {"CPU": 8.0, "GPU": 2.0}
        return [
            {"NodeID": name, "Alive": name in self.alive, "Resources": resources} for name in self.alive + self.dead
        ]

    def clock(self) -> float:
        return self.now


class ManyTrials:
    """A conductor whose trials begin and do not end."""

    left_nodes: frozenset[str] = frozenset()
    exhausted = False
    running = 0
    steering = SimpleNamespace(take_stopped=frozenset)

    def next_trial(self) -> Assignment:
        self.running += 1
        return Assignment(self.running, 0, TrialConfig())


def test_a_thousand_trials_begin_with_one_question_to_ray() -> None:
    from hpo.driver.ray_backend.searcher import StudySearcher

    cluster = Cluster(*(f"node{index}" for index in range(250)))
    room = Room(GPU, nodes=cluster.nodes, clock=cluster.clock)
    conductor: Any = ManyTrials()
    searcher = StudySearcher(conductor, "/checkpoints", {}, room.by_node, room.limit)
    begun = [searcher.suggest(str(number)) for number in range(1001)]
    assert begun.count(None) == 1
    assert begun[-1] is None
    assert cluster.asked == 1
    cluster.now += REFRESH_S
    assert searcher.suggest("again") is None
    assert cluster.asked == 2


def test_a_study_uses_nodes_that_join_and_does_without_those_that_leave() -> None:
    from hpo.driver.ray_backend.searcher import StudySearcher

    cluster = Cluster("a")
    room = Room(GPU, nodes=cluster.nodes, clock=cluster.clock)
    conductor = Conductor(create(optuna.storages.InMemoryStorage(), synthetic_spec(budget={"trials": 100})))
    searcher = StudySearcher(conductor, "/checkpoints", {}, room.by_node, room.limit)

    def fill() -> int:
        cluster.now += REFRESH_S
        while searcher.suggest("trial") is not None:
            pass
        return conductor.running

    assert fill() == 4
    cluster.alive.append("b")
    assert fill() == 8
    cluster.alive.remove("a")
    cluster.dead.append("a")
    for number in range(5):
        conductor.on_lost(number, "its node was lost")
    assert fill() == 4


@pytest.mark.parametrize(("wanted", "limit"), [(None, 12), (5, 5), (100, 12)])
def test_a_number_is_the_most_trials_at_once_and_auto_takes_the_cluster(wanted: int | None, limit: int) -> None:
    cluster = Cluster("a", "b", "c")
    room = Room(Slots(1.0, 0.5, "cuda", 4, wanted), nodes=cluster.nodes, clock=cluster.clock)
    assert room.limit(sum(room.by_node().values())) == limit


@pytest.mark.parametrize(
    ("wishes", "slots", "limits"),
    [
        ([1.0], 7, [7]),
        ([1.0, 1.0], 4, [2, 2]),
        ([1.0, 1.0], 7, [3, 4]),
        ([0.125, 1.0, 1.0], 8, [1, 3, 4]),
        ([0.75, 1.0], 8, [4, 4]),
        ([0.25, 0.25], 8, [2, 2]),
        ([1.0] * 3, 2, [1, 1, 1]),
    ],
)
def test_studies_of_one_cluster_get_equal_parts_of_it(wishes: list[float], slots: int, limits: list[int]) -> None:
    """What one does not want goes to the others, and every study may have one trial."""
    studies = [f"{wish:.6f} {index}" for index, wish in enumerate(wishes)]
    cluster = Cluster("a")
    found = []
    for own in studies:
        wanted = None if own.startswith("1") else round(float(own.split()[0]) * slots)
        room = Room(Slots(1.0, 0.5, "cuda", 4, wanted), lambda: studies, own, cluster.nodes, cluster.clock)
        room.nodes()
        found.append(room.limit(slots))
    assert found == limits


def test_the_part_of_a_study_that_ray_does_not_know_yet_is_an_error() -> None:
    with pytest.raises(ValueError, match="not among"):
        part({"1.000000 a"}, "1.000000 b")


def test_a_lost_rack_costs_one_look_per_node() -> None:
    """Of six nodes four die under 32 trials each. The first loss looks at all at once, the others at none of these."""
    cluster = Cluster(*"abcdef")
    looks: list[str] = []

    def answers(node: Node) -> bool:
        looks.append(node["NodeID"])
        return node["NodeID"] in "ef"

    watch = NodeWatch(cluster.nodes, answers, cluster.clock)
    for _ in range(32):
        for node in "abcd":
            assert watch.is_gone(node)
    assert sorted(looks) == list("abcdef")
    assert watch.is_gone(None), "a trial that never said where it was"
    assert not watch.is_gone("e"), "a worker that crashed on a sound node"
    assert {name: looks.count(name) for name in "abcd"} == dict.fromkeys("abcd", 1)
    cluster.alive.remove("a")
    cluster.dead.append("a")
    assert watch.is_gone("a"), "as Ray says by now"


class Controller:
    """Ray's controller with 9,000 trials that have ended, of which nobody may ask, and three that live."""

    def __init__(self) -> None:
        states = [(9002, "PENDING"), (9001, "PENDING"), (9000, "RUNNING")]
        self.live = [SimpleNamespace(config={"number": number, "avoid": []}, status=state) for number, state in states]

    def get_live_trials(self) -> list[Any]:
        return self.live

    def get_trials(self) -> list[Any]:
        raise AssertionError("the choice of a trial must not depend on the trials that have ended")


def test_the_choice_of_a_trial_looks_at_those_that_live() -> None:
    from hpo.driver.ray_backend.scheduler import StudyScheduler

    conductor: Any = ManyTrials()
    assert StudyScheduler(conductor).choose_trial_to_run(Controller()).config["number"] == 9001


def test_a_free_worker_takes_no_trial_whose_own_worker_is_nearly_there() -> None:
    """Ray gives up the worker that it was starting for a trial that gets another one."""
    from hpo.driver.ray_backend.scheduler import LONG_S, StudyScheduler

    conductor: Any = ManyTrials()
    now = [0.0]
    scheduler = StudyScheduler(conductor, now=lambda: now[0])
    controller = Controller()

    def chosen() -> int:
        number: int = scheduler.choose_trial_to_run(controller).config["number"]
        return number

    assert chosen() == 9001, "no worker is starting yet for either"
    assert chosen() == 9002, "the worker of the younger one needs longest"
    for number in (9004, 9003):
        controller.live.append(SimpleNamespace(config={"number": number, "avoid": []}, status="PENDING"))
    assert chosen() == 9003, "it is new, and no worker is starting for it"
    assert chosen() == 9004
    now[0] = LONG_S + 1
    assert chosen() == 9001, "there is no room for a worker of its own"
    controller.live[:] = [trial for trial in controller.live if trial.config["number"] != 9001]
    assert chosen() == 9002
    controller.live.clear()
    assert scheduler.choose_trial_to_run(controller) is None
