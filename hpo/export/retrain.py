"""`hpo retrain`: train a configuration on the training and validation images, evaluate the test set once per seed."""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import search_spaces
from hpo.errors import UsageError
from hpo.files import write_atomically
from hpo.home import NAME, Home
from hpo.ledger.provenance import git_commit, versions
from hpo.ledger.reader import ledger_with, load_study
from hpo.ledger.test_set_log import TestSetLog
from hpo.results.best import training as training_of
from hpo.spec.paths import training_with_absolute_paths
from hpo.spec.study import SHIPPED_TRAINER
from hpo.spec.training import Training
from hpo.text import close
from hpo.validation.loader import load_training, parse_training
from trainers.api import CheckpointError, Context, EpochMetrics, TrainConfig

NO_TEST = "no test accuracy: the data set has no test images, and the model was trained on all the others"
OnEpoch = Callable[[int, EpochMetrics], None]
"""Called with the seed and the metrics of every epoch."""


@dataclass(frozen=True)
class Repeats:
    """Test accuracies of one configuration over seeds."""

    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    """Shares of correct test images, 0 to 1, in the order of `seeds`; empty if there are no test images."""

    @property
    def mean(self) -> float | None:
        """Mean test accuracy, 0 to 1; None if there are no test images."""
        return statistics.fmean(self.accuracies) if self.accuracies else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation; None for a single seed."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None


class Retraining:
    """Trains one configuration again and records its test-set evaluations in the ledger of its study."""

    def __init__(self, training: Training, home: Home, output: Path) -> None:
        """`output` is the folder for weights and metrics."""
        self.training = training
        self.output = output
        self._home = home
        self._log = TestSetLog(training, home)

    @property
    def evaluations_before(self) -> int:
        """How many earlier commands evaluated the test set for this configuration, as far as the ledger knows."""
        return self._log.before or 0

    @property
    def evaluations_of_variants(self) -> int:
        """How many earlier commands did so for the same trial with other settings."""
        return self._log.variants

    @property
    def remarks(self) -> list[str]:
        """What a person should know of the place and the meaning of the result, a sentence each."""
        source = self.training.provenance
        if source is None or source.study is None:
            return []
        if self.study is None:
            return [
                f"{self._home.path} does not have trial {source.trial} of study {source.study}, so this evaluation of "
                "the test set is not recorded; name the home folder of the study with --home"
            ]
        if not self._log.changes:
            return []
        changed = ", ".join(f"{path}={value}" for path, value in self._log.changes.items())
        return [f"{changed} is not what trial {source.trial} has, so the result does not count as that of the trial"]

    @property
    def study(self) -> str | None:
        """The study that records this retraining; None if the home folder does not have it."""
        return None if self._log.before is None else self._log.study

    def run(self, seeds: Sequence[int], device: str, on_epoch: OnEpoch) -> Repeats:
        """Train once per seed, and save weights, `config.json` and metrics in the output folder.

        With several seeds each has a folder `seed-N` of its own. `device` is auto, cpu or cuda.

        Raises:
            UsageError: the configuration belongs to another trainer, or the device or the folder cannot be used.
            TrainerError: data or weights are missing, or the training failed.
        """
        trainer = self.training.provenance.trainer if self.training.provenance else SHIPPED_TRAINER
        if trainer != SHIPPED_TRAINER:
            raise UsageError(
                f"this configuration was trained by {trainer}, but `hpo retrain` supports only {SHIPPED_TRAINER}"
            )
        if self.output.exists() and not self.output.is_dir():
            raise UsageError(f"--output {self.output} is a file; name a folder")
        device = resolve_device(device)
        folders = self._folders(seeds)
        accuracies = [self._train(seed, folder, device, on_epoch) for seed, folder in folders.items()]
        repeats = Repeats(tuple(seeds), tuple(value for value in accuracies if value is not None))
        summary = self.summary(repeats)
        write_atomically(self.output / "summary.json", json.dumps(summary, indent=2) + "\n")
        self._log.retrained(summary)
        return repeats

    def _folders(self, seeds: Sequence[int]) -> dict[int, Path]:
        """Where the weights of each seed lie."""
        return {seed: self.output / f"seed-{seed}" if len(seeds) > 1 else self.output for seed in seeds}

    def _train(self, seed: int, folder: Path, device: str, on_epoch: OnEpoch) -> float | None:
        """Train with one seed; returns the test accuracy. The ledger records the evaluation before it begins.

        None: there are no test images.
        """
        from trainers import retrain as engine
        from trainers.checkpoint import DirectoryStore

        checkpoints = DirectoryStore(str(folder / "checkpoints"))
        context = Context(seed=seed, checkpoints=checkpoints, device=device, cache_dir=str(self._home.cache))
        try:
            result = engine.retrain(
                self.training.config(),
                context,
                seed=seed,
                output_dir=folder,
                on_epoch=functools.partial(on_epoch, seed),
                before_test=functools.partial(self._log.begin, seed, folder),
            )
        except CheckpointError as error:
            raise UsageError(f"{folder}: {error}; name another folder with --output, or empty this one") from error
        if result.test_accuracy is not None:
            self._log.end(seed, result.test_accuracy)
        write_atomically(folder / "training.yaml", self.training.to_yaml())
        return result.test_accuracy

    def summary(self, repeats: Repeats) -> dict[str, Any]:
        """The results of a retraining, for `summary.json` and `--json`."""
        provenance = self.training.provenance
        return {
            "study": provenance.study if provenance else None,
            "trial": provenance.trial if provenance else None,
            "test_accuracy": repeats.mean,
            "test_accuracy_std": repeats.deviation,
            "seeds": list(repeats.seeds),
            "test_accuracies": list(repeats.accuracies),
            "val_accuracy_of_the_trial": provenance.val_accuracy if provenance else None,
            "changes": self._log.changes,
            "output": str(self.output.absolute()),
            "folders": [str(folder.absolute()) for folder in self._folders(repeats.seeds).values()],
            "versions": versions(),
            "git_commit": git_commit(),
        }


def prepare(
    source: str,
    overrides: Sequence[str],
    home: Home,
    output: Path | None,
    *,
    search_best: bool = False,
    epochs: int | None = None,
) -> Retraining:
    """The retraining of what `source` names, by default into a folder `retrained/NAME` of the home folder.

    Args:
        epochs: another length than that of the configuration; see `lengthened`. `overrides` come on top of it.

    Raises:
        As `find`.
    """
    if epochs is not None:
        whole, _ = find(source, [], home, search_best=search_best)
        overrides = [*lengthened(whole.train, epochs), *overrides]
    training, name = find(source, overrides, home, search_best=search_best)
    home.create()
    return Retraining(training_with_absolute_paths(training), home, output or home.path / "retrained" / name)


def lengthened(train: TrainConfig, epochs: int) -> list[str]:
    """The overrides that let a configuration train for so many epochs.

    The average of the weights covers the same share of the training: its length in steps, 1 / (1 - decay), grows with
    the epochs. All other settings stay, so the schedules are stretched over the longer training.
    """
    if epochs == train.epochs:
        return []
    overrides, decay = [f"train.epochs={epochs}"], 1 - (1 - train.ema.decay) * train.epochs / epochs
    return [*overrides, f"train.ema.decay={max(0.0, decay):.6g}"] if train.ema.decay else overrides


def find(source: str, overrides: Sequence[str], home: Home, *, search_best: bool = False) -> tuple[Training, str]:
    """The training that `source` names, and a name for its output.

    `source` is a file, a shipped recipe, or a study, whose best configuration is taken. A file takes precedence over a
    recipe, and a recipe over a study.

    Raises:
        SpecificationError: the file or an override is invalid.
        UsageError: `source` names nothing, the study has no complete trial, or `search_best` is given without a study.
    """
    # A folder of images may have the name of the study that was trained on it.
    is_file, is_recipe = Path(source).exists() and not Path(source).is_dir(), source in search_spaces.recipes()
    storage = None if is_file or is_recipe else ledger_with(home, source)
    if storage is None:
        if search_best:
            raise UsageError(f"--search-best chooses a trial of a study, and {home.path} has no study {source}")
        if NAME.fullmatch(source) and not is_file and not is_recipe:
            raise UsageError(_unknown(source, home))
        return load_training(source, overrides), Path(source).stem
    chosen = training_of(load_study(storage, source), search_best=search_best)
    number = chosen.provenance.trial if chosen.provenance else 0
    name = f"{source}-trial-{number:05d}{'-changed' if overrides else ''}"  # never in the folder of the trial's model
    return parse_training(chosen.to_yaml(), f"the best of {source}", overrides), name


def _unknown(source: str, home: Home) -> str:
    """The message for a name that is neither a file nor a study nor a recipe."""
    folder = home.path / "studies"  # its folders name the studies without a look into the ledger
    studies = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    recipes = search_spaces.recipes()
    hint = close(source, [*studies, *recipes])
    return f"{source} is not a file, a study in {home.path} or a shipped recipe; " + (
        hint or f"studies: {', '.join(studies) or 'none yet'}; recipes: {', '.join(recipes)}"
    )


def resolve_device(device: str) -> str:
    """`auto` becomes `cuda` if torch sees a GPU, else `cpu`.

    Raises:
        UsageError: the device is unknown, or `cuda` without a GPU.
    """
    from trainers.devices import gpu_count

    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device} is not auto, cpu or cuda; set CUDA_VISIBLE_DEVICES to choose a GPU")
    has_gpu = gpu_count() > 0
    if device == "cuda" and not has_gpu:
        raise UsageError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return ("cuda" if has_gpu else "cpu") if device == "auto" else device
