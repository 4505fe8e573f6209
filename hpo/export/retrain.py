"""`hpo retrain`: an exported configuration trained on train + validation, the test set evaluated once per run."""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.errors import UsageError
from hpo.files import write_atomically
from hpo.home import NAME, Home
from hpo.ledger.provenance import git_commit, versions
from hpo.ledger.reader import ledger_with, load_study
from hpo.ledger.test_set_log import Openings
from hpo.results.best import training as training_of
from hpo.spec.study import SHIPPED_TRAINER
from hpo.spec.training import Training
from hpo.text import close
from hpo.validation.loader import load_training, parse_training
from trainers.api import CheckpointError, Context, EpochMetrics


@dataclass(frozen=True)
class Repeats:
    """Test accuracies of one configuration over seeds."""

    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    output: Path

    @property
    def mean(self) -> float:
        """Mean test accuracy, 0 to 1."""
        return statistics.fmean(self.accuracies)

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation; None for a single seed."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None


def find(source: str, overrides: Sequence[str], home: Home, *, search_best: bool = False) -> tuple[Training, str]:
    """The training that a person means by `source`: a file, a shipped recipe, or the best of a study of that name;
    and a name for what becomes of it.

    Raises:
        SpecificationError: it is none of them, or an override is no valid one.
        UsageError: the study has no complete trial, or `search_best` is asked of something that is no study.
    """
    import search_spaces

    storage = None if Path(source).exists() or source in search_spaces.recipes() else ledger_with(home, source)
    if storage is None:
        if search_best:
            raise UsageError(f"--search-best chooses a trial of a study, and {source} is none in {home.path}")
        if NAME.fullmatch(source) and not Path(source).exists() and source not in search_spaces.recipes():
            raise UsageError(_unknown(source, home))
        return load_training(source, overrides), Path(source).stem
    chosen = training_of(load_study(storage, source), search_best=search_best)
    number = chosen.provenance.trial if chosen.provenance else 0
    return parse_training(chosen.to_yaml(), f"the best of {source}", overrides), f"{source}-trial-{number:05d}"


def _unknown(source: str, home: Home) -> str:
    """What a name may be that is none; folders tell the studies, as to whoever completes a command."""
    import search_spaces

    folder = home.path / "studies"
    studies = sorted(one.name for one in folder.iterdir()) if folder.is_dir() else []
    recipes = search_spaces.recipes()
    hint = close(source, [*studies, *recipes])
    return f"{source} is no file, no study in {home.path} and no shipped recipe; " + (
        hint or f"studies: {', '.join(studies) or 'none yet'}; recipes: {', '.join(recipes)}"
    )


def retrain(
    training: Training,
    home: Home,
    output: Path,
    *,
    seeds: Sequence[int],
    device: str,
    on_epoch: Callable[[int, EpochMetrics], None],
    openings: Openings,
) -> Repeats:
    """Train once per seed and save weights, `config.json` and metrics below `output`.

    Args:
        openings: has every look at the test set noted before it is taken.

    Raises:
        UsageError: the configuration belongs to another trainer, or the device is not there.
        TrainerError: data or weights cannot be had, or the training failed.
    """
    from trainers import retrain as engine
    from trainers.checkpoint import DirectoryStore

    trainer = training.provenance.trainer if training.provenance else SHIPPED_TRAINER
    if trainer != SHIPPED_TRAINER:
        raise UsageError(f"this configuration was trained by {trainer}; retrain knows only the shipped trainer")
    if output.exists() and not output.is_dir():
        raise UsageError(f"--output {output} is a file; name a folder")
    accuracies = []
    for seed in seeds:
        folder = output / f"seed-{seed}" if len(seeds) > 1 else output
        context = Context(
            seed=seed,
            checkpoints=DirectoryStore(str(folder / "checkpoints")),
            device=resolve_device(device),
            cache_dir=str(home.cache),
        )
        try:
            result = engine.retrain(
                training.config(),
                context,
                seed=seed,
                output_dir=folder,
                on_epoch=functools.partial(on_epoch, seed),
                before_test=functools.partial(openings.begin, seed, folder),
            )
        except CheckpointError as error:
            raise UsageError(f"{folder}: {error}; choose another folder by --output, or empty this one") from error
        openings.end(seed, result.test_accuracy)
        accuracies.append(result.test_accuracy)
        write_atomically(folder / "training.yaml", training.to_yaml())
    repeats = Repeats(tuple(seeds), tuple(accuracies), output)
    found = summary(training, repeats)
    write_atomically(output / "summary.json", json.dumps(found, indent=2) + "\n")
    openings.retrained(found | {"output": str(output.absolute())})
    return repeats


def summary(training: Training, repeats: Repeats) -> dict[str, Any]:
    """What a retraining found, for `summary.json` and `--json`."""
    return {
        "test_accuracy": repeats.mean,
        "test_accuracy_std": repeats.deviation,
        "seeds": list(repeats.seeds),
        "test_accuracies": list(repeats.accuracies),
        "val_accuracy_of_the_trial": training.provenance.val_accuracy if training.provenance else None,
        "output": str(repeats.output),
        "versions": versions(),
        "git_commit": git_commit(),
    }


def resolve_device(device: str) -> str:
    """`auto` becomes what the machine has.

    Raises:
        UsageError: it is no device, or CUDA is asked for and not there.
    """
    from trainers.devices import gpu_count

    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device} is none of auto, cpu, cuda; CUDA_VISIBLE_DEVICES chooses among several")
    available = gpu_count() > 0
    if device == "cuda" and not available:
        raise UsageError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return ("cuda" if available else "cpu") if device == "auto" else device
