"""The records that a killed search leaves: this tool, and Ray Tune, Optuna and MLflow connected by hand.

    python -m reports.benchmarks.by_hand --kills 6 --json reports/benchmarks/by_hand/by_hand.json

Both stacks search one parameter of the same synthetic learning curve, with two workers, ASHA (reduction factor 2, grace
period 1) and MLflow on SQLite. The second configuration that they try diverges. One study of each runs undisturbed. In
further studies, SIGKILL ends the driver at a random moment. Each is then continued once, in the way that its stack
documents: `hpo resume`, and `Tuner.restore` with `resume_errored`. The table counts what the Optuna storage and MLflow
hold at the end. The code by hand is `stock.py` in this folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from hpo.sqlite_urls import sqlite_url
from reports.benchmarks.by_hand.curve import ENQUEUED, EPOCHS, diverges

TRIALS = 16
LIMIT_S = 300

SPEC = """\
study: ours
trainer: reports.benchmarks.by_hand.curve:train
train: {{epochs: {epochs}, progressive: {{stages: 1}}}}
extra: {{seconds: {seconds}}}
space:
  extra.quality: {{type: float, low: 0.0, high: 1.0}}
enqueue: [{{extra.quality: {enqueued[0]}}}, {{extra.quality: {enqueued[1]}}}]
asha: {{reduction_factor: 2, grace_period: 1}}
search: {{policy: tpe}}
resources: {{cpus: 1}}
concurrency: 2
budget: {{trials: {trials}}}
"""


@dataclass(frozen=True)
class Ending:
    """What the records of one study say at its end."""

    stack: str
    """`hpo` or `by hand`."""
    killed: bool
    finished: bool
    """Whether the process that ran it last ended by itself and with success."""
    trials: int
    """In the Optuna storage."""
    optuna: dict[str, int]
    """Trials by state."""
    short_but_complete: int
    """Trials that Optuna calls COMPLETE although they trained for fewer than all epochs."""
    diverged: list[str]
    """States in Optuna of the trials whose objective became NaN."""
    runs: int
    """Runs of trials in MLflow."""
    mlflow: dict[str, int]
    """Those by status."""
    error: str = ""
    """The last line of stderr where it did not end well."""


def study(stack: str, folder: Path, seconds: float, kill_after: float | None) -> Ending:
    """Run one study; with `kill_after` seconds, kill its driver then and continue it once."""
    process = _start(stack, folder, seconds, again=False)
    if kill_after is not None:
        _until_begun(folder, process)
        time.sleep(kill_after)
        _kill(process)
        time.sleep(5)
        process = _start(stack, folder, seconds, again=True)
    try:
        _, errors = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        _kill(process)
        _, errors = process.communicate()
        errors += f"\nstill running after {LIMIT_S} s"
    return _ending(stack, folder, kill_after is not None, process.returncode == 0, errors)


def _start(stack: str, folder: Path, seconds: float, *, again: bool) -> subprocess.Popen[str]:
    if stack == "by hand":
        words = [sys.executable, "-m", "reports.benchmarks.by_hand.stock", str(folder), str(TRIALS), str(seconds)]
        command = [*words, "restore"] if again else words
    else:
        spec = folder / "ours.yaml"
        spec.write_text(SPEC.format(epochs=EPOCHS, seconds=seconds, trials=TRIALS, enqueued=ENQUEUED))
        words = [sys.executable, "-m", "hpo"]
        command = [*words, "resume", "ours"] if again else [*words, "run", str(spec)]
        command += ["--home", str(folder / "home")]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def _until_begun(folder: Path, process: subprocess.Popen[str]) -> None:
    """Wait until two trials have a value."""
    import sqlite3

    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        for path in folder.rglob("optuna.db"):
            try:
                with sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True) as database:
                    if database.execute("select count(*) from trials").fetchone()[0] >= 3:
                        return
            except sqlite3.Error:
                pass
        time.sleep(0.2)


def _kill(process: subprocess.Popen[str]) -> None:
    """The driver alone, as the kernel or a colleague would; what it started is left to end by itself."""
    os.kill(process.pid, signal.SIGKILL)
    if process.stderr:
        process.stderr.close()
    process.wait()


def _ending(stack: str, folder: Path, killed: bool, success: bool, errors: str) -> Ending:
    import mlflow
    import optuna

    name, home = ("stock", folder) if stack == "by hand" else ("ours", folder / "home")
    frozen = optuna.load_study(study_name=name, storage=sqlite_url(home / "optuna.db")).trials
    states = Counter(trial.state.name for trial in frozen)
    complete = [trial for trial in frozen if trial.state.name == "COMPLETE"]
    client = mlflow.MlflowClient(sqlite_url(home / "mlflow.db"))
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id], max_results=1000) if experiment else []
    if stack == "hpo":
        runs = [run for run in runs if "hpo.trial" in run.data.tags]
    return Ending(
        stack=stack,
        killed=killed,
        finished=success,
        trials=len(frozen),
        optuna=dict(states),
        short_but_complete=sum(_epochs(trial, stack) < EPOCHS for trial in complete),
        diverged=[trial.state.name for trial in frozen if _diverges(trial.params)],
        runs=len(runs),
        mlflow=dict(Counter(run.info.status for run in runs)),
        error="" if success else (errors.strip().splitlines() or [""])[-1][-300:],
    )


def _epochs(trial: object, stack: str) -> int:
    """Epochs that a trial has in the Optuna storage. Ray's OptunaSearch drops the report that stopped a trial."""
    steps = getattr(trial, "intermediate_values")  # noqa: B009 - a FrozenTrial
    return max(steps, default=0) + (stack == "by hand")


def _diverges(parameters: Mapping[str, float]) -> bool:
    return any(diverges(value, EPOCHS) for name, value in parameters.items() if name.endswith("quality"))


def table(endings: Sequence[Ending]) -> str:
    """The comparison as a Markdown table."""
    rows = ["| | by hand | hpo |", "|---|---:|---:|"]
    for title, count in ROWS.items():
        cells = [count([ending for ending in endings if ending.stack == stack]) for stack in ("by hand", "hpo")]
        rows.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _undisturbed(endings: Sequence[Ending]) -> Ending:
    return next(ending for ending in endings if not ending.killed)


def _pruned_but_finished(ending: Ending) -> int:
    return ending.mlflow.get("FINISHED", 0) - (ending.optuna.get("COMPLETE", 0) - ending.short_but_complete)


def _killed(endings: Sequence[Ending], holds: Callable[[Ending], bool]) -> str:
    killed = [ending for ending in endings if ending.killed]
    return f"{sum(map(holds, killed))} of {len(killed)}"


def _whole(ending: Ending) -> bool:
    left = ending.optuna.get("RUNNING", 0) + ending.mlflow.get("RUNNING", 0)
    return ending.finished and ending.trials == ending.runs == TRIALS and not left


ROWS: dict[str, Callable[[Sequence[Ending]], str]] = {
    "pruned or diverged trials that Optuna records as COMPLETE": lambda some: str(
        _undisturbed(some).short_but_complete
    ),
    "pruned or diverged trials that MLflow shows as FINISHED": lambda some: str(
        _pruned_but_finished(_undisturbed(some))
    ),
    "states in Optuna of the two trials whose objective became NaN": lambda some: ", ".join(
        _undisturbed(some).diverged
    ),
    "killed studies that finish once they are continued": lambda some: _killed(some, lambda one: one.finished),
    "killed studies with every trial and run recorded once": lambda some: _killed(some, _whole),
}


def page(endings: Sequence[Ending], versions: Mapping[str, str]) -> str:
    """The finding as a Markdown page."""
    killed = sum(ending.killed for ending in endings) // 2
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    errors = Counter(ending.error.partition(":")[0] for ending in endings if ending.error)
    said = "".join(f"- `{error}` in {count} of {killed}\n" for error, count in errors.most_common())
    return (
        f"# This tool, and the three libraries by hand\n\n{(__doc__ or '').partition(chr(10))[2].strip(chr(10))}\n\n"
        f"{table(endings)}\n\nBy hand, the continued studies ended with:\n\n{said or '- no error'}\n"
        f"Each study has {TRIALS} trials of up to {EPOCHS} epochs. Versions: {packages}.\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison, or write the page again from its JSON file."""
    parser = argparse.ArgumentParser(
        prog="python -m reports.benchmarks.by_hand", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--kills", type=int, default=6, help="number of killed studies of each stack (6)")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of an epoch in seconds (0.3)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments of the kills (0)")
    parser.add_argument("--json", type=Path, help="write the records of each study here, and the page beside it")
    parser.add_argument("--page-only", action="store_true", help="write the page from the existing JSON file")
    options = parser.parse_args(arguments)
    if options.page_only:
        stored = json.loads(options.json.read_text(encoding="utf-8"))
        endings, versions = [Ending(**ending) for ending in stored["studies"]], stored["versions"]
    else:
        endings, versions = measure(options.kills, options.seconds, options.seed), _versions()
    print(table(endings))
    if options.json:
        content = {"versions": versions, "studies": [asdict(ending) for ending in endings]}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        options.json.with_suffix(".md").write_text(page(endings, versions), encoding="utf-8")
    return 0


def measure(kills: int, seconds: float, seed: int) -> list[Ending]:
    """One undisturbed study and `kills` killed ones of each stack."""
    moments = random.Random(seed)
    endings = []
    for wait in [None, *(moments.uniform(0, 10) for _ in range(kills))]:
        for stack in ("by hand", "hpo"):
            with tempfile.TemporaryDirectory(prefix="by-hand-", ignore_cleanup_errors=True) as folder:
                endings.append(study(stack, Path(folder), seconds, wait))
            print(endings[-1], file=sys.stderr, flush=True)
    return endings


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("ray", "optuna", "mlflow")}
