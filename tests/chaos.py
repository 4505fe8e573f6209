"""Kill studies at random moments, resume them, and check that nothing is lost: `python -m tests.chaos --runs 50`.

Every run is a study of its own (synthetic trainer, real Ray, SQLite and MLflow) whose driver or one of whose workers
is killed with SIGKILL one to three times. The driver is resumed at once, while Ray still clears up after the dead one.
Drivers of every third run start a Ray of their own, which dies with them; the others share a cluster that outlives
them. `tests/integration/test_chaos.py` plays ten smaller ones.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpo.home import Home
from hpo.ledger.reader import load_study
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.search.asha import replay
from hpo.search.rungs import training_rungs
from hpo.search.samplers import draw
from hpo.spec.configure import configure
from hpo.spec.seeds import derive_seed
from hpo.spec.study import Spec
from tests.conftest import synthetic_spec
from tests.support.drivers import Driver, cluster

LIMIT_S = 300.0
QUALITY = {"type": "float", "low": 0.0, "high": 1.0}
PLAIN: dict[str, Any] = {
    "space": {"extra.quality": QUALITY},
    "enqueue": [{"extra.quality": 0.5}, {"extra.quality": 0.2}],
    "train": {"progressive": {"stages": 1}},
}
STAGES = "train.progressive.stages"
STAGED: dict[str, Any] = {
    "space": {"extra.quality": QUALITY, STAGES: {"type": "int", "low": 1, "high": 4}},
    "enqueue": [{"extra.quality": 0.5, STAGES: 4}, {"extra.quality": 0.2, STAGES: 2}],
    "train": {},
    "asha": {"reduction_factor": 2, "resource": "compute", "align": "stages", "controls": 0.25},
}
"""Every second run: trials that meet their rungs after different epochs, and some that nobody stops."""
LANDING: dict[str, Any] = {
    "space": {"extra.quality": QUALITY, "extra.speed": {"type": "float", "low": 0.1, "high": 3.0}},
    "enqueue": [{"extra.quality": 0.2, "extra.speed": 3.0}],
    "train": {"progressive": {"stages": 1}},
    "search": {"policy": "gp", "landing": True},
}
"""Every fourth run: ASHA stops slow trials that promise much, and they are taken up again."""


@dataclass(frozen=True)
class Scale:
    """How large a run's study is."""

    trials: int = 8
    epochs: int = 8
    seconds: float = 0.2
    """Per epoch."""
    latest: int = 28
    """Trained epochs of the study after which a kill is planned at the latest; fewer than it will have."""
    start: float = 8.0
    """Seconds after its start at which a starting driver is killed at the latest."""
    torch: int = 5
    """Every so many runs keep checkpoints through torch, whose import dominates the others' time; 0: none."""


@dataclass(frozen=True)
class Kill:
    """One planned kill."""

    target: str
    """`driver` or `worker`."""
    epochs: int | None
    """After so many trained epochs of the study; None: of a driver that is starting."""
    delay: float
    """Seconds after that."""


@dataclass
class Result:
    """What one run showed."""

    kills: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    """Seconds from each kill to the next trained epoch."""
    repeated: int = 0
    """Epochs trained again."""
    taken_up: int = 0
    """Trials that ASHA had stopped and that went on."""
    seconds: float = 0.0


class Run:
    """One study and its deaths."""

    def __init__(self, folder: Path, seed: int, index: int, ray: dict[str, str], scale: Scale = Scale()) -> None:
        """`ray`: environment that names a cluster to use; empty to start one for each driver."""
        self.ray = ray
        self.scale = scale
        self.name = f"chaos-{seed}-{index:03d}"
        self.home = Home.at(folder / "home").create()
        self.journal = folder / f"journal-{self.name}"
        self.journal.mkdir()
        chance = random.Random(f"{seed}/{index}")
        self.plan = [self._kill(chance) for _ in range(chance.randint(1, 3))]
        self.plan.sort(key=lambda kill: -1 if kill.epochs is None else kill.epochs)
        kind = STAGED if index % 2 else LANDING if index % 4 == 2 else PLAIN
        self.spec = synthetic_spec(
            self.name,
            extra={
                "seconds": scale.seconds,
                "journal": str(self.journal),
                "light": not scale.torch or index % scale.torch != scale.torch - 1,
            },
            **(kind | {"train": {**kind["train"], "epochs": scale.epochs}}),
            budget={"trials": scale.trials},
            concurrency=2,
            seed=index,
            retries=9,
        )
        self.file = folder / f"{self.name}.yaml"
        self.file.write_text(self.spec.to_yaml())
        self.drivers: list[Driver] = []
        self.result = Result()

    def _kill(self, chance: random.Random) -> Kill:
        if chance.random() < 0.2:
            return Kill("driver", None, chance.uniform(0, self.scale.start))
        target = chance.choice(["driver", "driver", "worker"])
        return Kill(target, chance.randrange(self.scale.latest), chance.uniform(0, 2 * self.scale.seconds))

    # ------------------------------------------------------------------------------------------ running

    def play(self) -> Result:
        """Run the study to its end through all its kills, then check it."""
        began = time.monotonic()
        self._start("run", str(self.file))
        for kill in self.plan:
            if not self._die(kill):
                break
        self._finish()
        self.check()
        self.result.seconds = time.monotonic() - began
        return self.result

    def _start(self, *command: str) -> None:
        self.drivers.append(Driver.start(*command, home=self.home.path, **self.ray))

    def _die(self, kill: Kill) -> bool:
        driver = self.drivers[-1]
        while kill.epochs is not None and len(self.trained()) < kill.epochs and driver.process.is_alive():
            time.sleep(0.01)
        driver.process.join(kill.delay)
        if not driver.process.is_alive():
            return False  # the study had ended before
        moment = time.time()
        if kill.target == "driver":
            driver.kill()
            self._resume()
        else:
            workers = sorted(
                {pid for _, _, pid, at in self.trained() if at > moment - 3 and Path(f"/proc/{pid}").exists()}
            )
            if not workers:
                return True
            os.kill(workers[len(self.result.gaps) % len(workers)], signal.SIGKILL)
        self.result.kills[kill.target] += 1
        self._wait_for_training(moment)
        return True

    def _resume(self) -> None:
        try:
            load_study(open_storage(self.home.ledger_url), self.name)
            self._start("resume", self.name)
        except Exception:  # noqa: BLE001 - killed before the study was whole: the tool says so and `run` begins it
            self._start("run", str(self.file))

    def _wait_for_training(self, moment: float) -> None:
        while self.drivers[-1].process.is_alive() and time.time() < moment + LIMIT_S:
            after = [at for *_, at in self.trained() if at > moment + self.scale.seconds]
            if after:
                self.result.gaps.append(min(after) - moment)
                return
            time.sleep(0.02)

    def _finish(self) -> None:
        code = self.drivers[-1].wait(LIMIT_S)
        if code != 0:
            raise RuntimeError(f"the last driver of {self.name} ended with {code}: {self.drivers[-1].text[-3000:]}")

    def trained(self) -> list[tuple[int, int, int, float]]:
        """(trial, epoch, pid, time) of every epoch that was really trained."""
        found = []
        for path in self.journal.iterdir():
            for line in path.read_text().splitlines():
                epoch, pid, at = line.split()
                found.append((int(path.name), int(epoch), int(pid), float(at)))
        return found

    # ----------------------------------------------------------------------------------------- checking

    def check(self) -> None:
        """Everything that must be as if nothing had happened."""
        study = load_study(open_storage(self.home.ledger_url), self.name)
        self._check_trials(study)
        self._check_mlflow(study)
        self._check_asha(study)
        self._check_checkpoints(study)
        self.result.taken_up = sum(bool(trial.taken_up) for trial in study.trials)
        self.result.wrong += [f"trial {trial.number} is still kept" for trial in study.trials if trial.kept]
        counts = Counter((trial, epoch) for trial, epoch, _, _ in self.trained())
        kills = self.result.kills.total()
        self.result.repeated = sum(counts.values()) - len(counts)
        for number in range(self.scale.trials):
            again = sum(count - 1 for (trial, _), count in counts.items() if trial == number)
            if again > kills:
                self.result.wrong.append(f"trial {number} trained {again} epochs again after {kills} kills")
        # What a killed driver left, the next one has ended.
        self.result.wrong += [f"left running: {line}" for one in self.drivers for line in one.orphans(3)]

    def _check_trials(self, study: StudyRecord) -> None:
        import optuna

        frozen = optuna.load_study(study_name=self.name, storage=open_storage(self.home.ledger_url)).trials
        states = Counter(trial.state.name for trial in frozen)
        if set(states) - {"COMPLETE", "PRUNED"}:
            self.result.wrong.append(f"Optuna's states are {dict(states)}")
        for number, values in expected(self.spec).items():
            if number >= len(study.trials):
                self.result.lost.append(f"trial {number}")
            elif study.trials[number].values != values:
                self.result.wrong.append(f"trial {number} has {study.trials[number].values}, not {values}")
        self.result.duplicates += [f"trial {trial.number}" for trial in study.trials[self.scale.trials :]]
        for trial, stored in zip(study.trials, frozen, strict=True):
            met = {level: epoch for epoch, level in self._rungs(trial).items()}
            horizon = self.scale.epochs if trial.complete else met.get(trial.pruned_at or 0, 0)
            epochs = Counter(epoch.metrics.epoch for epoch in trial.epochs)
            self._compare(f"trial {trial.number}: ledger", epochs, horizon)
            self._compare(f"trial {trial.number}: Optuna", Counter(stored.intermediate_values), horizon)

    def _compare(self, where: str, found: Counter[int], horizon: int) -> None:
        self.result.lost += [f"{where} epoch {epoch}" for epoch in range(1, horizon + 1) if not found[epoch]]
        self.result.duplicates += [f"{where} epoch {epoch}" for epoch, count in found.items() if count > 1]
        self.result.wrong += [f"{where} epoch {epoch} is too many" for epoch in found if epoch > horizon]

    def _check_mlflow(self, study: StudyRecord) -> None:
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.home.mlflow_url)
        experiment = client.get_experiment_by_name(self.name)
        runs = client.search_runs([experiment.experiment_id]) if experiment else []
        by_trial = Counter(int(run.data.tags.get("hpo.trial", -1)) for run in runs)
        wanted = range(-1, self.scale.trials)
        self.result.lost += [f"MLflow run of trial {number}" for number in wanted if not by_trial[number]]
        self.result.duplicates += [f"MLflow run of trial {number}" for number, count in by_trial.items() if count > 1]
        status = {"complete": "FINISHED", "pruned": "KILLED"}
        for run in runs:
            if "hpo.trial" not in run.data.tags:
                continue
            trial = study.trials[int(run.data.tags["hpo.trial"])]
            steps = Counter(point.step for point in client.get_metric_history(run.info.run_id, "val_accuracy"))
            self._compare(f"trial {trial.number}: MLflow", steps, len(trial.epochs))
            if run.info.status != status.get(trial.status) or run.info.run_id != trial.mlflow_run_id:
                self.result.wrong.append(f"MLflow has trial {trial.number}, {trial.status}, as {run.info.status}")

    def _check_asha(self, study: StudyRecord) -> None:
        decisions = [(trial.number, rung) for trial in study.trials for rung in trial.rungs]
        self.result.wrong += [f"ASHA: {one}" for one in replay(decisions, self.spec.asha.reduction_factor)]
        for trial in study.trials:
            passed = [level for epoch, level in self._rungs(trial).items() if epoch <= len(trial.epochs)]
            stopped = next((place for place, rung in enumerate(trial.rungs, start=1) if not rung.keep), len(passed))
            passed = passed[:stopped]  # a control told to stop is not judged again, nor is a trial that was taken up
            if [rung.rung for rung in trial.rungs] != passed:
                self.result.wrong.append(f"ASHA: trial {trial.number} passed {passed}, recorded {trial.rungs}")
            if (trial.status == "pruned") != (trial.pruned_at is not None):
                self.result.wrong.append(f"ASHA: trial {trial.number} is {trial.status} with {trial.rungs}")

    def _rungs(self, trial: TrialRecord) -> dict[int, float]:
        return training_rungs(self.spec, configure(self.spec.base(), trial.values).train)

    def _check_checkpoints(self, study: StudyRecord) -> None:
        for trial in study.trials:
            folder = Path(self.home.checkpoints(self.name)) / f"{trial.number:05d}"
            names = sorted(path.stem for path in folder.glob("*.json"))
            if names != ([f"{len(trial.epochs):06}"] if trial.status == "complete" else []):
                self.result.wrong.append(f"trial {trial.number} of {len(trial.epochs)} epochs has checkpoints {names}")


def expected(spec: Spec) -> dict[int, dict[str, object]]:
    """The configurations of a run that nobody disturbs, by trial."""
    import optuna

    from hpo.search.samplers import study_sampler

    ledger = Ledger.create(optuna.storages.InMemoryStorage(), spec, {}, study_sampler(spec))
    asked = [
        ledger.ask(lambda trial: draw(trial, spec.space), lambda number: derive_seed(spec.seed, number))
        for _ in range(spec.budget.trials)
    ]
    return {trial.number: dict(trial.values) for trial in asked}


def play(runs: range, seed: int, folder: Path) -> list[Result]:
    """Play these runs in `folder`, printing a line for each."""
    with cluster() as shared:
        return [_play(folder, seed, index, shared if index % 3 else {}) for index in runs]


def _play(folder: Path, seed: int, index: int, ray: dict[str, str]) -> Result:
    result = Run(folder, seed, index, ray).play()
    kills = ", ".join(f"{count} {target}" for target, count in sorted(result.kills.items())) or "none"
    print(
        f"run {index}: kills {kills}; lost {len(result.lost)}, duplicates {len(result.duplicates)}, "
        f"wrong {len(result.wrong)}; repeated {result.repeated} epochs; taken up {result.taken_up}; "
        f"{result.seconds:.0f} s",
        *result.lost,
        *result.duplicates,
        *result.wrong,
        sep="\n    ",
        flush=True,
    )
    return result


def summary(results: list[Result]) -> dict[str, float]:
    """The figures of all runs together."""
    gaps = [gap for result in results for gap in result.gaps]
    kills = sum((result.kills for result in results), Counter())
    return {
        "runs": len(results),
        "kills": kills.total(),
        "driver_kills": kills["driver"],
        "worker_kills": kills["worker"],
        "losses": sum(len(result.lost) for result in results),
        "duplicates": sum(len(result.duplicates) for result in results),
        "violations": sum(len(result.wrong) for result in results),
        "taken_up": sum(result.taken_up for result in results),
        "repeated_epochs_per_kill": round(sum(result.repeated for result in results) / max(kills.total(), 1), 3),
        "seconds_lost_per_kill": round(statistics.mean(gaps), 2) if gaps else math.nan,
        "seconds_lost_per_kill_median": round(statistics.median(gaps), 2) if gaps else math.nan,
        "seconds": round(sum(result.seconds for result in results), 1),
    }


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--first", type=int, default=0, help="begin with this run, to play a series in parts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    # Short, because Ray puts sockets below it and their paths are limited to 107 bytes.
    with tempfile.TemporaryDirectory(prefix="chaos-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        os.environ["RAY_TMPDIR"] = folder
        runs = range(arguments.first, arguments.first + arguments.runs)
        figures = summary(play(runs, arguments.seed, Path(folder)))
    print(json.dumps(figures) if arguments.json else "\n".join(f"{key}: {value}" for key, value in figures.items()))
    return int(bool(figures["losses"] + figures["duplicates"] + figures["violations"]))


if __name__ == "__main__":
    sys.exit(main())
