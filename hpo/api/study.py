"""A recorded study for Python programs: `load_study`, `studies`, and what they return."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hpo.driver.steering.renaming import rename
from hpo.errors import InfrastructureError, UsageError
from hpo.export.files import Format, Request, export
from hpo.home import NAME, Home
from hpo.ledger.reader import load_study as read_from
from hpo.ledger.reader import open_existing, read_study, study_names
from hpo.ledger.records import StudyRecord
from hpo.results.summary import counts
from hpo.results.tables.frames import frame
from hpo.results.tables.trials import epoch_table, trial_table
from hpo.results.winner import Winner, confirmed_winner, search_winner
from hpo.spec.parameters import Choice
from hpo.spec.study import Spec

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Best:
    """The best trial of a study. Its values are those of the study's primary objective, by default the validation
    accuracy, 0 to 1."""

    trial: int
    """Its number."""
    params: Mapping[str, Choice]
    """Its searched parameters, by dotted path."""
    value: float
    """After the last epoch; of a confirmed trial, the mean over the new seeds."""
    interval: tuple[float, float] | None
    """95 % interval of `value`; None if nothing is known about the noise."""
    gain: float | None
    """How much better than the baseline: the difference of the values, positive if it is better, also where a smaller
    value is better. None if it is the baseline, or if no baseline is complete."""
    within_noise: bool | None
    """Whether `gain` may be chance; None if that is not known."""
    text: str = field(repr=False)
    """In words: `93.40 %, +0.20 points (within noise) over the baseline`."""

    @classmethod
    def of(cls, best: Winner) -> Best:
        """The same without the records of the study."""
        score = best.objective.score
        interval = best.interval.in_units_of(best.objective) if best.interval else None
        return cls(
            best.trial.number,
            dict(best.trial.assigned),
            score(best.accuracy),
            (interval.low, interval.high) if interval else None,
            best.gain.value if best.gain else None,
            best.gain.within_noise if best.gain else None,
            best.shown + best.compared,
        )


class Study:
    """A study as it was recorded when it was loaded. Load it again to see what a running study did since."""

    def __init__(self, record: StudyRecord, home: Home) -> None:
        self.record = record
        """Everything that the ledger has of it."""
        self._home = home

    @property
    def name(self) -> str:
        """Its name."""
        return self.record.name

    @property
    def home(self) -> Path:
        """The home folder that holds it."""
        return self._home.path

    @property
    def spec(self) -> Spec:
        """Its whole specification. `hpo.run(study.spec, study="again")` runs it anew."""
        return self.record.spec

    @cached_property
    def trials(self) -> pandas.DataFrame:
        """One row per trial: number, state, origin, epochs, stage, value, the searched parameters by their dotted
        paths, seconds, times (UTC), attempts, host, reason of the end, MLflow run. See `hpo.results.tables.trials`."""
        return frame(trial_table([self.record]))

    @cached_property
    def epochs(self) -> pandas.DataFrame:
        """One row per finished epoch of every trial, with all metrics. See `trainers.api.EpochMetrics`."""
        return frame(epoch_table(self.record))

    @cached_property
    def best(self) -> Best | None:
        """The best complete trial of the search, for a value that is partly luck; None while no trial is complete."""
        found = search_winner(self.record)
        return Best.of(found) if found else None

    @cached_property
    def confirmed(self) -> Best | None:
        """The trial that a confirmation chose, with its mean over new seeds; None before a confirmation is complete."""
        found = confirmed_winner(self.record)
        return Best.of(found) if found else None

    def report(self, output: str | os.PathLike[str] | None = None) -> Path:
        """Write the report; returns the path of the HTML page, beside which are the same in Markdown and `trials.csv`.

        Args:
            output: folder for the report; None for `report` in the study's folder.

        Raises:
            UsageError: the folder cannot be written to.
        """
        from reports.page.render import write_report

        folder = Path(output) if output is not None else self._home.study(self.name) / "report"
        try:
            return write_report([self.record], folder, self._home.option)
        except OSError as error:
            raise UsageError(f"the report cannot be written to {folder}: {error.strerror}") from error

    def export(
        self,
        output: str | os.PathLike[str] | None = None,
        *,
        format: Literal["hpo", "timm", "hf", "onnx", "pt2"] = "hpo",
        trial: int | None = None,
    ) -> Path:
        """Write the configuration of a trial, or the model that was retrained from it; returns the path.

        The ledger is read again, so that the newest choice of a running study or a confirmation is written.

        Args:
            output: file for a configuration, folder for a model; None for a place in the home folder.
            format: `hpo` and `timm`: a configuration; `hf`, `onnx` and `pt2`: the retrained model.
            trial: number of the trial; None for the confirmed one, or else the best of the search.

        Raises:
            UsageError: no trial is complete, there is no such trial or no retrained model of it.
        """
        formats = [each.value for each in Format]
        if format not in formats:
            raise UsageError(f"format={format!r}: unknown format; choose one of {', '.join(formats)}")
        path = Path(output) if output is not None else None
        (written,) = export(self._home, Request(self.name, Format(format), trial=trial, output=path))
        return written.file

    def rename(self, name: str) -> None:
        """Rename the study in the ledger, in the home folder and in MLflow. Reads it again.

        Raises:
            UsageError: a driver runs it, or there is something of that name already.
            InfrastructureError: the ledger or MLflow cannot be reached.
        """
        trouble = rename(self.name, name, self._home).trouble
        self.record = read_study(self._home, name)
        if trouble:
            raise InfrastructureError(trouble)

    def __repr__(self) -> str:
        """`<Study cifar10, 20 trials: 8 complete, 12 pruned, best 93.40 %>`."""
        words = [f"<Study {self.name}", counts(self.record)]
        if chosen := self.confirmed or self.best:
            words.append(f"{'confirmed' if self.confirmed else 'best'} trial {chosen.trial}: {chosen.text}")
        return f"{', '.join(words)}>"


def load_study(name: str, *, home: str | os.PathLike[str] | None = None) -> Study:
    """Read a study from its ledger, whether it has ended, runs, or was recorded by an earlier version.

    Args:
        name: name of the study.
        home: home folder; None for the environment variable `HPO_HOME`, or else `runs`.

    Raises:
        UsageError: there is no such study.
        InfrastructureError: the ledger cannot be read.
    """
    place = home_at(home)
    return Study(read_study(place, name), place)


def studies(*, home: str | os.PathLike[str] | None = None) -> list[Study]:
    """All studies of a home folder, the newest first; empty if there is none. Studies without a record are left out.

    Args:
        home: as of `load_study`.

    Raises:
        InfrastructureError: a ledger cannot be read.
    """
    place = home_at(home)
    records = []
    if (place.path / "optuna.db").is_file():
        storage = open_existing(place)
        records += [read_from(storage, name) for name in study_names(storage)]
    for folder in (place.path / "studies").glob("*"):
        if NAME.fullmatch(folder.name) and place.pointer(folder.name).is_file():
            try:
                records.append(read_study(place, folder.name))
            except UsageError:  # it is starting
                continue
    records.sort(key=lambda record: float(record.info.get("created", 0.0)), reverse=True)
    return [Study(record, place) for record in records]


def home_at(path: str | os.PathLike[str] | None) -> Home:
    """The home folder that an argument names."""
    return Home.at(Path(path) if path is not None else None)
