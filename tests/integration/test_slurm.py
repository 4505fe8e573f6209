"""The scripts of the page on SLURM, submitted to a real SLURM: the time limit, the requeue, the end of the study."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpo.home import Home
from hpo.ledger.reader import load_study
from hpo.ledger.storage import open_storage
from tests.conftest import REPOSITORY, synthetic_spec
from tests.support.markdown import blocks
from tests.support.slurm import Slurm, missing, slurm

pytestmark = pytest.mark.ray

TRAINER = """\
import pathlib
import time
from tests import synthetic

def train(config, context):
    for metrics in synthetic.train(config, context):
        yield metrics
        while metrics.epoch == 2 and not pathlib.Path(config.extra["gate"]).exists():
            time.sleep(0.1)
"""
"""Trains no third epoch before the test opens the gate, so that the time limit always comes in between."""


class Job:
    """A script of the page with a study of its own, below a folder that all nodes share."""

    def __init__(self, folder: Path, script: str, **changes: object) -> None:
        self.folder, self.submitted, self.home = folder, folder / "submit", Home.at(folder / "hpo")
        self.gate, self.journal = folder / "gate", folder / "journal"
        self.submitted.mkdir(parents=True)
        self.journal.mkdir()
        (self.submitted / "job.sh").write_text(script)
        (self.submitted / "gated.py").write_text(TRAINER)  # Ray ships it to the other nodes
        extra = {"light": True, "gate": str(self.gate), "journal": str(self.journal)}
        settings = {"trainer": "gated:train", "extra": extra, "budget": {"trials": 4}, "asha": {"enabled": False}}
        settings |= {"storage": {"checkpoints": str(folder / "checkpoints")}, "tracking": {"enabled": False}}
        spec = synthetic_spec("cifar10", **settings, **changes)
        (self.submitted / "cifar10").write_text(spec.to_yaml())  # comes before the shipped study of that name

    def submit(self, cluster: Slurm, *options: str) -> None:
        # Half a minute for a node to come up is too short on a busy machine.
        patience = {"RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT": "180"}
        environment = {"HOME": str(self.folder), "PYTHONPATH": str(REPOSITORY), **patience}
        number = cluster.run("sbatch", "--parsable", *options, "job.sh", cwd=self.submitted, **environment)
        self.number = number.strip()

    @property
    def text(self) -> str:
        """What the job has written."""
        return "".join(path.read_text() for path in self.submitted.glob("slurm-*.out"))


def several_nodes(script: str, start: str, stop: str) -> str:
    """The script with the changes that the page describes, on two nodes."""
    script = script.replace("#SBATCH --nodes=1\n", "#SBATCH --nodes=2\n#SBATCH --ntasks-per-node=1\n")
    script = script.replace("\nif hpo status", f"\n{start}\nif hpo status")
    return script.replace('\nif [ "$code" -eq 143', f'\n{stop}\nif [ "$code" -eq 143')


def until(condition: Callable[[], bool], cluster: Slurm, jobs: list[Job], seconds: float = 240) -> None:
    """Wait for a condition while no job has failed."""
    deadline = time.monotonic() + seconds
    while not condition():
        states = [cluster.job(job.number)["JobState"] for job in jobs]
        if time.monotonic() > deadline or "FAILED" in states:
            pytest.fail("\n".join([str(states), *(job.text[-4000:] for job in jobs)]))
        time.sleep(0.3)


@pytest.mark.timeout(900)
def test_a_time_limit_interrupts_the_jobs_of_the_page_and_their_requeue_ends_the_studies(tmp_path: Path) -> None:
    """One node, and two nodes without a common working directory. Every epoch is trained once and recorded once."""
    if reason := missing():
        pytest.skip(reason)
    script, start, stop = blocks(REPOSITORY / "reports" / "docs" / "slurm.md", "bash")
    one = Job(tmp_path / "one", script, concurrency=2)
    two = Job(tmp_path / "two", several_nodes(script, start, stop), resources={"cpus": 32})
    jobs = [one, two]
    with slurm(tmp_path / "slurm", ["node1", "node2", "node3"]) as cluster:
        cluster.hide("node2", two.submitted)
        one.submit(cluster, "--nodelist=node3")
        two.submit(cluster, "--nodelist=node1,node2")
        until(lambda: all(job.text.count("epoch 2/8") == 2 for job in jobs), cluster, jobs)
        for job in jobs:  # to four minutes; the signal comes three before
            cluster.run("scontrol", "update", f"JobId={job.number}", "TimeLimit=4")
        until(lambda: all(cluster.job(job.number)["JobState"] == "PENDING" for job in jobs), cluster, jobs)
        for job in jobs:
            job.gate.touch()
            # SLURM would wait two minutes before it starts a requeued job.
            cluster.run("scontrol", "update", f"JobId={job.number}", "TimeLimit=60", "StartTime=now")
        until(lambda: all(cluster.job(job.number)["JobState"] == "COMPLETED" for job in jobs), cluster, jobs)
        assert [cluster.job(job.number)["Restarts"] for job in jobs] == ["1", "1"]
    for job in jobs:
        assert job.text.count("interrupted by SIGTERM") == 1
        study = load_study(open_storage(job.home.ledger_url), "cifar10")
        assert [trial.status for trial in study.trials] == ["complete"] * 4
        assert [[attempt.resumed_after for attempt in trial.attempts] for trial in study.trials] == [
            [0, 2],
            [0, 2],
            [0],
            [0],
        ]
        for trial in study.trials:
            assert [epoch.metrics.epoch for epoch in trial.epochs] == list(range(1, 9))
            trained = (job.journal / f"{trial.number:05d}").read_text().splitlines()
            assert [line.split()[0] for line in trained] == list("12345678")
        hosts = {trial.attempts[0].host for trial in study.trials[:2]}
        assert hosts == ({"node3"} if job is one else {"node1", "node2"})
