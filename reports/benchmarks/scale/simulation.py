"""A cluster in virtual time: many GPUs, one thread that schedules, and the real conductor, ledger and sampler.

Every call of the driver is made for real. The processor time that the calling thread spends is what the virtual thread
is busy for: meanwhile other reports wait, and so do their GPUs. What the driver's other threads spend during a call
counts as waiting for them. Between two calls they get as much processor time as virtual time passes. Waiting for the
disk is not charged.
"""

from __future__ import annotations

import heapq
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from hpo.clock import Clock
from hpo.driver.conductor import Assignment, Conductor
from hpo.driver.events import Event
from hpo.driver.listeners import BestFile
from hpo.home import Home
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.search.samplers import study_sampler
from reports.benchmarks.scale.studies import NAME, report, search_spec

R = TypeVar("R")
EPOCH_S = 20.0
SPREAD = 0.1
"""Epochs of a trial last between 1 - SPREAD and 1 + SPREAD times `EPOCH_S`."""
RETRY_S = 0.05
"""Virtual seconds after which a free GPU asks again if there was no trial for it yet."""
PAUSE_S = 0.001
"""Real seconds between two looks at the other threads."""


@dataclass(frozen=True)
class Simulated:
    """What happened until the last trial was handed out."""

    policy: str
    gpus: int
    trials_before: int
    """Trials in the ledger at the start."""
    trials: int
    """Handed out."""
    epochs: int
    """Reported."""
    virtual_s: float
    """Length of the study until then."""
    thread_busy_share: float
    """Share of that time in which the scheduling thread worked."""
    thread_waiting_share: float
    """Share in which it waited for other threads of the driver, for example for a suggestion in the making."""
    process_busy_share: float
    """Processor time of all threads of the driver, as a share of that time; above 1 if one core is not enough."""
    gpus_idle_share: float
    """Share of the time of all GPUs in which they did not train."""
    ends: dict[str, int]
    """Trials by how they ended."""
    cpu_s: dict[str, float]
    """Processor time of the scheduling thread by kind of call, seconds."""


@dataclass
class Thread:
    """The virtual thread: when it is free again, and what it has done."""

    free_at: float = 0.0
    waited_s: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)

    def call(self, kind: str, ready: float, work: Callable[[], R]) -> R:
        """Do work that is ready at a moment; afterwards `free_at` is when it was done."""
        let_others_work(ready - self.free_at)
        self.free_at = max(ready, self.free_at)
        process, thread = time.process_time(), time.thread_time()
        result = work()
        cost = time.thread_time() - thread
        waited = max(0.0, time.process_time() - process - cost)
        self.free_at += cost + waited
        self.waited_s += waited
        self.cpu_s[kind] = self.cpu_s.get(kind, 0.0) + cost
        return result


def let_others_work(seconds: float) -> None:
    """Wait until the other threads of this process have nothing to do, or had so much processor time."""
    start = time.process_time() - time.thread_time()
    while time.process_time() - time.thread_time() - start < seconds and others_work():
        time.sleep(PAUSE_S)


def others_work() -> bool:
    """Whether another thread of this process runs, or would if it got a core."""
    own = str(threading.get_native_id())
    for task in Path("/proc/self/task").iterdir():
        try:
            if task.name != own and (task / "stat").read_text().rpartition(")")[2].split()[0] in "RD":
                return True
        except OSError:  # it has ended meanwhile
            continue
    return False


def simulate(url: str, policy: str, *, trials: int, gpus: int = 100) -> Simulated:
    """Train until the ledger at `url` holds `trials`.

    Raises:
        Exception: what stopped the conductor.
    """
    thread = Thread()
    spec = search_spec(policy, trials)
    clock = Clock(monotonic=lambda: thread.free_at)
    ledger = Ledger.open(open_storage(url), NAME, study_sampler(spec), clock=clock)
    ledger.respecify(spec)
    before = len(ledger.trials)
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        ends: Counter[str] = Counter()

        def listen(event: Event) -> None:
            best(event)
            if event.kind == "finished" and event.trial is not None:
                ends[event.trial.status] += 1

        conductor = Conductor(ledger, listener=listen)
        best = BestFile(ledger.study, conductor.tally, Home.at(Path(folder)).create())
        began = time.process_time()
        trained, handed_out, epochs = _train(conductor, thread, gpus)
        busy, until = sum(thread.cpu_s.values()), thread.free_at
        process = time.process_time() - began
        conductor.close()
    if conductor.fatal is not None:
        raise conductor.fatal
    return Simulated(
        policy=policy,
        gpus=gpus,
        trials_before=before,
        trials=handed_out,
        epochs=epochs,
        virtual_s=until,
        thread_busy_share=busy / until,
        thread_waiting_share=thread.waited_s / until,
        process_busy_share=process / until,
        gpus_idle_share=1 - trained / (gpus * until),
        ends=dict(ends),
        cpu_s=thread.cpu_s,
    )


@dataclass(frozen=True)
class Training:
    """A trial on its GPU."""

    assignment: Assignment
    epoch_s: float
    epoch: int
    """The one that trains now."""


def _train(conductor: Conductor, thread: Thread, gpus: int) -> tuple[float, int, int]:
    """Run the cluster until no GPU gets a trial any more.

    Returns the seconds that GPUs have trained until then, the trials handed out and the epochs reported.
    """
    queue: list[tuple[float, int, Training | None]] = [(0.0, gpu, None) for gpu in range(gpus)]
    began: dict[int, tuple[float, float]] = {}
    trained, numbers, epochs = 0.0, [-1], 0
    while queue and conductor.stopping is None:
        ready, gpu, training = heapq.heappop(queue)
        thread.call("tick", ready, conductor.tick)
        if training is not None:
            trained += training.epoch_s
            epochs += 1
            following = _reported(conductor, thread, training, ready)
        else:
            following = _begun(conductor, thread, gpu, ready)
            if following is not None:
                numbers.append(following.assignment.number)
            elif max(numbers) + 1 >= conductor.spec.budget.trials:
                break  # the study ends: from here on GPUs are idle whatever the driver does
        if following is None:
            began.pop(gpu, None)
            wait = RETRY_S if training is None else 0.0
            heapq.heappush(queue, (thread.free_at + wait, gpu, None))
        else:
            began[gpu] = thread.free_at, thread.free_at + following.epoch_s
            heapq.heappush(queue, (began[gpu][1], gpu, following))
    trained += sum(min(end, thread.free_at) - start for start, end in began.values())
    return trained, len(numbers) - 1, epochs


def _reported(conductor: Conductor, thread: Thread, training: Training, ready: float) -> Training | None:
    """The next epoch of the trial; None if it has ended."""
    number, metrics = training.assignment.number, report(training.assignment, training.epoch)
    continues = thread.call("on_epoch", ready, lambda: conductor.on_epoch(number, metrics))
    return replace(training, epoch=training.epoch + 1) if continues else None


def _begun(conductor: Conductor, thread: Thread, gpu: int, ready: float) -> Training | None:
    """The first epoch of another trial, which begins at once, in the worker of the last one; None if there is none."""
    assignment = thread.call("next_trial", ready, conductor.next_trial)
    if assignment is None:
        return None
    place = ("node", f"cuda:{gpu % 8}", 1000 + gpu, f"node-{gpu // 8}")
    thread.call("on_placed", ready, lambda: conductor.on_placed(assignment.number, *place))
    done = len(conductor.ledger.trial(assignment.number).epochs)
    seconds = EPOCH_S * random.Random(assignment.seed).uniform(1 - SPREAD, 1 + SPREAD)
    return Training(assignment, seconds, done + 1)
