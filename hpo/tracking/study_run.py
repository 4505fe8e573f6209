"""The study's own run: what the study is, how its best result came about, and its files."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hpo.home import confirmed_study
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.redact import redact
from hpo.results.best import training
from hpo.results.confirmation import evaluate
from hpo.results.gpu_hours import gpu_hours_until
from hpo.results.summary import description
from hpo.spec.study import Spec
from hpo.tracking.runs import PARENT_TAG, Store, ms, numbers

Figures = Callable[[StudyRecord], Mapping[str, bytes]]
"""Draws a study: file names and their contents."""

DESCRIPTION_TAG, BEST_TAG, DRAWN_TAG = "mlflow.note.content", "hpo.best_trial", "hpo.plots"
SPECIFICATION, BEST, DATA, PLOTS = "specification.yaml", "best.yaml", "data.json", "plots"
METRICS_PER_CALL = 1000
"""The most that MLflow takes."""
SOURCES = {
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar.html",
    "cifar100": "https://www.cs.toronto.edu/~kriz/cifar.html",
}


@dataclass(frozen=True)
class Point:
    """How the study stood when one more trial had ended."""

    step: int
    """Trials ended, in whatever way."""
    at: float
    """Seconds since the epoch."""
    values: Mapping[str, float]


def course(study: StudyRecord) -> Iterator[Point]:
    """The incumbent over the number of trials that have ended, from the first complete one on."""
    ended = [trial for trial in study.trials if trial.outcome is not None and trial.outcome.final]
    ended.sort(key=lambda trial: (trial.finished or 0.0, trial.number))
    charged = gpu_hours_until(study, [trial.finished or 0.0 for trial in ended])
    best: TrialRecord | None = None
    worker_hours = 0.0
    for step, (trial, gpu_hours) in enumerate(zip(ended, charged, strict=True), 1):
        worker_hours += trial.seconds / 3600
        if trial.complete and (best is None or _rank(trial) > _rank(best)):
            best = trial
        if best is not None and best.last is not None:
            values = {f"incumbent/{key}": value for key, value in numbers(best.last).items() if key.startswith("val_")}
            values |= {"incumbent/trial": float(best.number), "spent/worker_hours": worker_hours}
            values |= {"spent/gpu_hours": gpu_hours} if gpu_hours else {}
            yield Point(step, trial.finished or 0.0, values)


def _rank(trial: TrialRecord) -> tuple[float, int]:
    return trial.value or 0.0, -trial.number


class Page:
    """Brings the study's own run in line with its records; repeating anything changes nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sent: dict[str, str] = {}
        """Newest content by tag or file."""
        self._steps: dict[str, set[int]] = {}
        """The steps that are there, by metric; read when a metric is first sent."""
        self._filed: tuple[Spec, TrialRecord | None] | None = None
        """What the files were made of."""

    # --------------------------------------------------------------------------------------- writing

    def begin(self, study: StudyRecord) -> None:
        """Show the study as running."""
        self._store.client.update_run(self._store.parent, status="RUNNING")
        self.update(study)

    def update(self, study: StudyRecord) -> None:
        """Description, incumbent and files as they are now."""
        self._tag(DESCRIPTION_TAG, description(study))
        self._inputs(study)
        self._tag("hpo.ended", study.ended or "")
        if confirmed_study(study.name) is not None:
            self._confirmed(study)
            return
        self._send(course(study))
        if study.best is not None:
            self._tag(BEST_TAG, str(study.best.number))
        if self._filed != (study.spec, study.best):
            for name, text in files(study).items():
                self._file(name, text)
            self._filed = study.spec, study.best

    def _confirmed(self, study: StudyRecord) -> None:
        """The choice's mean and gain with their intervals; the best single repeat means nothing."""
        for name, text in files(study).items():
            self._file(name, text)
        found = evaluate(study.spec, study.trials)
        if found.chosen is None:
            return
        for name, interval in (("val_accuracy", found.chosen.interval), ("gain", found.gain)):
            for part, value in dataclasses.asdict(interval).items() if interval else ():
                key = f"confirmed_{name}_{part}"
                if self._sent.get(key) != f"{found.planned} {value}":
                    self._store.client.log_metric(self._store.parent, key, value, step=found.planned)
                    self._sent[key] = f"{found.planned} {value}"
        self._tag(BEST_TAG, str(found.chosen.trial))

    def finish(self, study: StudyRecord) -> None:
        """The study as its driver leaves it."""
        self.update(study)
        status = study_status(study)
        if status == "SCHEDULED":
            self._store.client.update_run(self._store.parent, status=status)
        else:
            ended = max((end for _, end in study.sessions), default=None)
            self._store.client.set_terminated(self._store.parent, status, ms(ended))

    def draw(self, study: StudyRecord, images: Mapping[str, bytes]) -> None:
        """Replace the plots, which show the study as given."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in images.items():
                (Path(folder) / name).write_bytes(content)
            self._store.client.log_artifacts(self._store.parent, folder, PLOTS)
        self._tag(DRAWN_TAG, drawn(study))

    def sample(self, values: Mapping[str, float], study: StudyRecord, now: float) -> None:
        """How busy the machine is; a step is one second of the study."""
        from mlflow.entities import Metric

        step = int(now - study.info.get("created", now))
        metrics = [Metric(f"system/{key}", value, int(now * 1000), step) for key, value in values.items()]
        self._store.client.log_batch(self._store.parent, metrics)

    def _tag(self, key: str, text: str) -> None:
        if self._sent.get(key) != text:
            self._store.client.set_tag(self._store.parent, key, text)
            self._sent[key] = text

    def _file(self, name: str, text: str) -> None:
        if self._sent.get(name) != text:
            self._store.client.log_text(self._store.parent, text, name)
            self._sent[name] = text

    def _inputs(self, study: StudyRecord) -> None:
        wanted = dataset(study)
        if wanted is None or self._sent.get("dataset"):
            return
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [DatasetInput(Dataset(**wanted), [InputTag("mlflow.data.context", "training")])]
        self._store.client.log_inputs(self._store.parent, inputs)
        self._sent["dataset"] = wanted["digest"]

    def _send(self, points: Iterable[Point]) -> None:
        from mlflow.entities import Metric

        missing = [
            Metric(key, value, int(point.at * 1000), point.step)
            for point in points
            for key, value in point.values.items()
            if point.step not in self._steps_of(key)
        ]
        for start in range(0, len(missing), METRICS_PER_CALL):
            chosen = missing[start : start + METRICS_PER_CALL]
            self._store.client.log_batch(self._store.parent, chosen)
            for metric in chosen:
                self._steps[metric.key].add(metric.step)

    def _steps_of(self, key: str) -> set[int]:
        if key not in self._steps:
            history = self._store.client.get_metric_history(self._store.parent, key)
            self._steps[key] = {point.step for point in history}
        return self._steps[key]

    # ------------------------------------------------------------------------------- compare and repair

    def differences(self, study: StudyRecord, *, plots: bool = False) -> Iterator[str]:
        """What the run has otherwise than the ledger; the plots' age only where somebody can draw them anew."""
        if not self._store.runs.parents:
            yield "the study has no run of its own"
            return
        if len(self._store.runs.parents) > 1:
            yield f"the study has {len(self._store.runs.parents)} runs of its own"
        run = self._store.runs.parents[-1]
        if run.info.status != study_status(study):
            yield f"the study's run is {run.info.status}, not {study_status(study)}"
        if run.data.tags.get(DESCRIPTION_TAG) != description(study):
            yield "the study's description is of another state"
        missing, wrong = self._store.metric_differences(run, _by_metric(study))
        if missing:
            yield f"the study's run lacks {missing} metric values"
        if wrong:
            yield f"the study's run has {wrong} metric values that do not follow from the ledger"
        if dataset(study) and not (run.inputs and run.inputs.dataset_inputs):
            yield "the study's run has no data set"
        for name, text in files(study).items():
            found = self._text(name)
            if found != text:
                yield f"the study's file {name} is {'missing' if found is None else 'of another state'}"
        if plots and run.data.tags.get(DRAWN_TAG) != drawn(study):
            yield "the study's plots are of another state"
        children = [one for runs in (self._store.runs.trials, self._store.runs.retrainings) for one in runs.values()]
        strays = [one for found in children for one in found if one.data.tags.get(PARENT_TAG) != run.info.run_id]
        if strays:
            yield f"{len(strays)} runs do not belong to the study's run"

    def _text(self, name: str) -> str | None:
        parent = self._store.parent
        if name not in [one.path for one in self._store.client.list_artifacts(parent)]:
            return None
        with tempfile.TemporaryDirectory() as folder:
            return Path(self._store.client.download_artifacts(parent, name, folder)).read_text(encoding="utf-8")

    def repair(self, study: StudyRecord) -> None:
        """Leave one run that is right, with everything else below it. MLflow cannot take a value back, so a run
        with wrong ones is deleted and a new one is written."""
        runs = self._store.runs
        kept = runs.parents[-1:]
        if kept and self._store.metric_differences(kept[0], _by_metric(study))[1]:
            kept = []
        for run in runs.parents:
            if run not in kept:
                self._store.delete(run)
        runs.parents[:] = kept
        self._sent, self._steps, self._filed = {}, {}, None
        self.finish(study)
        for found in (*runs.trials.values(), *runs.retrainings.values()):
            for run in found:
                if run.data.tags.get(PARENT_TAG) != self._store.parent:
                    self._store.client.set_tag(run.info.run_id, PARENT_TAG, self._store.parent)


def files(study: StudyRecord) -> dict[str, str]:
    """The run's text files by name."""
    found = {SPECIFICATION: redact(study.spec.to_yaml())}
    if data := study.info.get("data"):
        found[DATA] = json.dumps(dict(data), indent=2) + "\n"
    if study.best is not None and confirmed_study(study.name) is None:
        found[BEST] = redact(training(study).to_yaml())
    return found


def dataset(study: StudyRecord) -> dict[str, str] | None:
    """The data set in MLflow's terms; None where a trainer of someone's own has one that is not known here."""
    data = study.info.get("data")
    if not data:
        return None
    name = study.spec.data.name
    url = SOURCES.get(name)
    return {
        "name": name,
        "digest": str(data["split_hash"])[:8],  # as long as MLflow's own; the whole is a tag
        "source_type": "http" if url else "code",
        "source": json.dumps({"url": url} if url else {"tags": {"mlflow.source.name": f"trainers.data: {name}"}}),
        "profile": json.dumps({key: data[key] for key in ("num_classes", "train_count", "validation_count")}),
    }


def drawn(study: StudyRecord) -> str:
    """The state that plots show, so that older ones are known."""
    return f"{len(study.trials)} trials, {sum(len(trial.epochs) for trial in study.trials)} epochs"


def study_status(study: StudyRecord) -> str:
    """MLflow's status of the study's own run once no driver is at work."""
    left = study.count("interrupted")
    if study.count("running") or (left and study.ended is None):
        return "SCHEDULED"
    return "FINISHED" if study.best or left else "FAILED"


def _by_metric(study: StudyRecord) -> dict[str, dict[int, float]]:
    wanted: dict[str, dict[int, float]] = {}
    if confirmed_study(study.name) is not None:
        return wanted
    for point in course(study):
        for key, value in point.values.items():
            wanted.setdefault(key, {})[point.step] = value
    return wanted
