"""The study run, parent of the trials' runs: description, incumbent over time, files and plots of a study."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.clock import Clock
from hpo.home import confirmed_study
from hpo.ledger.records import StudyRecord
from hpo.results.confirmation import evaluate
from hpo.results.summary import description
from hpo.results.winner import Winner, winner
from hpo.spec.study import Spec
from hpo.tracking.runs import PARENT_TAG, Store, ms_after, same, storable
from hpo.tracking.study_content import Point, course, course_by_metric, dataset, drawn, files, final, study_status
from hpo.tracking.ui.view import run_address, view
from hpo.tracking.upkeep.naming import view_tag

if TYPE_CHECKING:
    from mlflow.entities import Run

DESCRIPTION_TAG, BEST_TAG, CONFIRMED_TAG = "mlflow.note.content", "hpo.best_trial", "hpo.confirmed_trial"
FORMER_TAGS = "version."
"""Start of the names of tags in which earlier versions kept what is now a file."""
DRAWN_TAG, FILES_TAG = "hpo.plots", "hpo.files"
PLOTS = "plots"
METRICS_PER_CALL = 1000
"""The most that MLflow accepts."""


class StudyRun:
    """Brings the study run in line with the study's records; repeating a call changes nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sent: dict[str, str] = {}
        """The newest content of each tag, file and single metric."""
        self._steps: dict[str, set[int]] = {}
        """The steps that MLflow has, by metric; read when a metric is first sent."""
        self._filed: tuple[Spec, Winner | None] | None = None
        """The specification and the best trial that the files were made from."""

    # --------------------------------------------------------------------------------------- writing

    def begin(self, study: StudyRecord) -> None:
        """Show the study as running, and its trials in MLflow's list of runs."""
        self._store.client.update_run(self._store.parent, status="RUNNING")
        self._show_in_list(study)
        self.update(study)

    def update(self, study: StudyRecord) -> None:
        """Write the current description, incumbent and files; the files last, because their store may be slow."""
        self._records(study)
        self.write_files(study)

    def _records(self, study: StudyRecord) -> None:
        """Write everything but files."""
        self._tag(DESCRIPTION_TAG, self._description(study))
        self._inputs(study)
        self._tag("hpo.ended", study.ended or "")
        if confirmed_study(study.name) is not None:
            self._confirmed(study)
            return
        self._send(course(study))
        best = winner(study)
        if best is not None:
            self._tag(BEST_TAG, str(best.trial.number))
        if best is not None and best.confirmation:
            self._tag(CONFIRMED_TAG, str(best.trial.number))

    def _description(self, study: StudyRecord) -> str:
        """The study in Markdown, with a link to the run of its best trial."""
        best = winner(study) if confirmed_study(study.name) is None else None
        run = self._store.run_of(best.trial) if best else None
        return description(study, run_address(self._store.experiment, run.info.run_id) if run else None)

    def _show_in_list(self, study: StudyRecord) -> None:
        """Let MLflow's list of runs show the study as `hpo.tracking.ui.view` says."""
        key, text = view_tag(study.name), view(study.name, study.spec)
        if self._sent.get(key) != text:
            self._store.client.set_experiment_tag(self._store.experiment, key, text)
            self._sent[key] = text

    def write_files(self, study: StudyRecord) -> None:
        """Write the files that have changed, as far as their store takes them."""
        state = study.spec, winner(study)
        if self._filed != state:
            for name, text in files(study).items():
                self._file(name, text)
            if self._store.files.usable:
                self._filed = state

    def _confirmed(self, study: StudyRecord) -> None:
        """Write the mean and the gain of the chosen configuration with their intervals, not the best single run."""
        confirmation = evaluate(study.spec, study.trials)
        if confirmation.chosen is None:
            return
        goal, chosen = study.spec.objective, confirmation.chosen
        mean, gain = chosen.mean, confirmation.gain_mean
        interval = chosen.interval.in_units_of(goal) if chosen.interval else None
        values = {
            f"{goal.name}_mean": None if mean is None else goal.score(mean),
            "gain_mean": gain,
            "probability_best": chosen.chance,
        }
        for name, ends in ((goal.name, interval), ("gain", confirmation.gain)):
            values |= {f"{name}_low": ends.low, f"{name}_high": ends.high} if ends else {}
        for name, value in values.items():
            if value is not None:
                self._metric(f"confirmed_{name}", value, confirmation.planned)
        self._tag(BEST_TAG, str(confirmation.chosen.trial))

    def finish(self, study: StudyRecord) -> None:
        """Write the study as its driver leaves it. Its status does not wait for its files."""
        self._show_in_list(study)
        self._records(study)
        self._final(study)
        self._drop_former_tags()
        status = study_status(study)
        if status == "SCHEDULED":
            self._store.client.update_run(self._store.parent, status=status)
        else:
            ended = max((end for _, end in study.sessions), default=None)
            self._store.client.set_terminated(self._store.parent, status, ms_after(ended, study.info.get("created")))
        self.write_files(study)
        self._tag(FILES_TAG, "written" if self._store.files.usable else "their store refuses them")

    def _final(self, study: StudyRecord) -> None:
        """Write the values of the best trial, unless they are the newest ones already."""
        from mlflow.entities import Metric

        step, values = final(study)
        run = self._store.client.get_run(self._store.parent)
        if _shows(run, values):
            return
        now = int(Clock().now() * 1000)  # MLflow shows the newest value of a step
        self._store.client.log_batch(run.info.run_id, [Metric(key, value, now, step) for key, value in values.items()])

    def _drop_former_tags(self) -> None:
        for key in [key for key in self._store.runs.parents[-1].data.tags if key.startswith(FORMER_TAGS)]:
            self._store.client.delete_tag(self._store.parent, key)
            del self._store.runs.parents[-1].data.tags[key]

    def draw(self, study: StudyRecord, images: Mapping[str, bytes]) -> None:
        """Replace the plots by `images`, which show `study`, if the store of files takes them."""
        parent, client = self._store.parent, self._store.client
        with tempfile.TemporaryDirectory() as folder:
            for name, content in images.items():
                (Path(folder) / name).write_bytes(content)
            if self._store.files.attempt(lambda: client.log_artifacts(parent, folder, PLOTS)):
                self._tag(DRAWN_TAG, drawn(study))

    def sample(self, values: Mapping[str, float], study: StudyRecord, now: float) -> None:
        """Add a sample of the machine's load, taken at `now` (seconds since 1970)."""
        from mlflow.entities import Metric

        step = int(now - study.info.get("created", now))  # seconds since the study was created
        metrics = [Metric(f"system/{key}", value, int(now * 1000), step) for key, value in values.items()]
        self._store.client.log_batch(self._store.parent, metrics)

    def _tag(self, key: str, text: str) -> None:
        text = storable(text)
        if self._sent.get(key) != text:
            self._store.client.set_tag(self._store.parent, key, text)
            self._sent[key] = text

    def _metric(self, key: str, value: float, step: int) -> None:
        if self._sent.get(key) != f"{step} {value}":
            self._store.client.log_metric(self._store.parent, key, value, step=step)
            self._sent[key] = f"{step} {value}"

    def _file(self, name: str, text: str) -> None:
        if self._sent.get(name) == text:
            return
        parent, client = self._store.parent, self._store.client
        if self._store.files.attempt(lambda: client.log_text(parent, text, name)):
            self._sent[name] = text

    def _inputs(self, study: StudyRecord) -> None:
        fields = dataset(study)
        if fields is None or self._sent.get("dataset"):
            return
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [DatasetInput(Dataset(**fields), [InputTag("mlflow.data.context", "training")])]
        self._store.client.log_inputs(self._store.parent, inputs)
        self._sent["dataset"] = fields["digest"]

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

    def differences(self, study: StudyRecord) -> Iterator[str]:
        """What differs from the ledger, a line each, without files."""
        parents = self._store.runs.parents
        if not parents:
            yield "the study run is missing"
            return
        if len(parents) > 1:
            yield f"the study has {len(parents)} study runs"
        run = parents[-1]
        yield from self._content_differences(run, study)
        yield from self._shown_differences(run, study)
        if strays := self._strays(run):
            yield f"{len(strays)} runs are not below the study run"

    def _content_differences(self, run: Run, study: StudyRecord) -> Iterator[str]:
        if run.info.status != study_status(study):
            yield f"the study run is {run.info.status}, not {study_status(study)}"
        if run.data.tags.get(DESCRIPTION_TAG) != storable(self._description(study)):
            yield "the description shows another state of the study"
        best = winner(study) if confirmed_study(study.name) is None else None
        if best is not None and run.data.tags.get(BEST_TAG) != str(best.trial.number):
            yield f"the study run does not name trial {best.trial.number} as the best"
        missing, wrong = self._store.metric_differences(run, course_by_metric(study), final(study)[1])
        if missing:
            yield f"the study run lacks {missing} metric values"
        if wrong:
            yield f"the study run has {wrong} metric values that do not follow from the ledger"
        if dataset(study) and not (run.inputs and run.inputs.dataset_inputs):
            yield "the study run has no data set"

    def _shown_differences(self, run: Run, study: StudyRecord) -> Iterator[str]:
        """What MLflow's list of runs and the first page of the study run show."""
        if not _shows(run, final(study)[1]):
            yield "the study run does not show the values of the best trial"
        if any(key.startswith(FORMER_TAGS) for key in run.data.tags):
            yield "the study run has a tag for each version of a package"
        if view_tag(study.name) not in self._store.client.get_experiment(self._store.experiment).tags:
            yield "MLflow's list of runs has no view of the study"

    def file_differences(self, study: StudyRecord, *, plots: bool) -> Iterator[str]:
        """Which files are missing or show another state; with `plots` also whether those do."""
        parents = self._store.runs.parents
        if not parents:
            return
        run = parents[-1]
        for name, text in files(study).items():
            stored = self._store.files.read(self._store.client, run.info.run_id, name)
            if stored is None:
                yield f"the file {name} of the study run is missing"
            elif stored != text:
                yield f"the file {name} shows another state of the study"
        if plots and run.data.tags.get(DRAWN_TAG) != drawn(study):
            yield "the plots show another state of the study"

    def _strays(self, parent: Run) -> list[Run]:
        """The runs of trials and retrainings that are not below `parent`."""
        runs = self._store.runs
        children = [run for group in (runs.trials, runs.retrainings) for places in group.values() for run in places]
        return [run for run in children if run.data.tags.get(PARENT_TAG) != parent.info.run_id]

    def repair(self, study: StudyRecord) -> None:
        """Keep one correct study run, with all other runs below it.

        MLflow cannot remove a value, so a run with wrong values is deleted and written again.
        """
        runs = self._store.runs
        kept = runs.parents[-1:]
        if kept and self._store.metric_differences(kept[0], course_by_metric(study), final(study)[1])[1]:
            kept = []
        for run in runs.parents:
            if run not in kept:
                self._store.delete(run)
        runs.parents[:] = kept
        self._sent, self._steps, self._filed = {}, {}, None
        self.finish(study)
        for run in self._strays(runs.parents[-1]):
            self._store.client.set_tag(run.info.run_id, PARENT_TAG, self._store.parent)


def _shows(run: Run, values: Mapping[str, float]) -> bool:
    """Whether the newest values of a run's metrics are these."""
    return all(key in run.data.metrics and same(value, run.data.metrics[key]) for key, value in values.items())
