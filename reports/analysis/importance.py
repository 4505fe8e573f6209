"""Parameter importances, computed by Optuna from trials rebuilt in memory. No other file of the report uses Optuna."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from hpo.ledger.records import StudyRecord
from hpo.search.distributions import distributions
from hpo.spec.parameters import Choice
from reports.analysis.stages import ENOUGH_TRIALS, latest_epoch, reached, value_after

METHOD = "PED-ANOVA (arXiv 2304.10255, Optuna's implementation)"
FEWEST, ROUGH_BELOW = 12, 50
"""With fewer trials than the first number there are no importances, below the second one they are rough. Measured on
samples of the study of `reports.benchmarks.large_study`, in which one of eight parameters has 99 % of the importance
(60 samples of each size). From 8 trials it came first in 52 % of the samples, which is no better than what pure noise
looks like; from 12 in 80 %, from 20 in 93 %, from 30 in all. The share given to wrong parameters was 48 % from 12
trials, 36 % from 20, 21 % from 50, 6 % from 200."""
TOP_SHARE = 0.1
TOP_TRIALS = 5
"""Fewest trials in the top share, as the authors of PED-ANOVA advise."""


@dataclass(frozen=True)
class Importances:
    """How much each parameter matters."""

    shares: Mapping[str, float]
    """By parameter, greatest first; they sum to 1."""
    epoch: int
    """The trials were compared by their accuracy after this many epochs."""
    trials: int
    """How many trials reached that epoch."""
    top_share: float
    """Share of the trials that counts as the best ones, 0 to 1."""

    @property
    def rough(self) -> bool:
        """Whether a large part of the shares may belong to other parameters."""
        return self.trials < ROUGH_BELOW

    @property
    def top_words(self) -> str:
        """What was compared with all trials, in words."""
        return f"the top {100 * self.top_share:.0f} % of {self.trials} trials after epoch {self.epoch}"


def importances(study: StudyRecord) -> tuple[Importances, ...]:
    """Importances after the latest epoch that enough trials reached, then after a later one that few trials reached.

    Empty while too few trials have reported, or if all accuracies are equal. Accuracies are compared after the same
    number of epochs, because a pruned trial has a low last accuracy whatever its parameters are. Few trials give a
    rough result, but one nearer to the end of the training.
    """
    few = latest_epoch(study, FEWEST)
    epochs = dict.fromkeys((latest_epoch(study, ENOUGH_TRIALS) or few, few))
    results = [_at(study, epoch) for epoch in epochs if epoch is not None]
    return tuple(result for result in results if result is not None)


def _at(study: StudyRecord, epoch: int) -> Importances | None:
    results = [(trial.values, value_after(trial, epoch)) for trial in reached(study, epoch)]
    return _evaluate(study, epoch, [(values, accuracy) for values, accuracy in results if accuracy is not None])


def _evaluate(study: StudyRecord, epoch: int, results: list[tuple[Mapping[str, Choice], float]]) -> Importances | None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    available = distributions(study.spec.space)
    rebuilt = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(), direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0)
    )
    rebuilt.add_trials(
        optuna.trial.create_trial(params=inside, distributions={name: available[name] for name in inside}, value=value)
        for values, value in results
        for inside in [_inside_space(study, values)]
    )
    top_share = min(0.5, max(TOP_SHARE, TOP_TRIALS / len(results)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the result shows equal values and too little data
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=top_share)
        shares = optuna.importance.get_param_importances(rebuilt, evaluator=evaluator)
    all_equal = len({accuracy for _, accuracy in results}) == 1
    if not shares or all_equal or not all(math.isfinite(share) for share in shares.values()):
        return None
    return Importances(dict(shares), epoch, len(results), top_share)


def _inside_space(study: StudyRecord, values: Mapping[str, Choice]) -> dict[str, Choice]:
    """The values that lie in the space; those of an enqueued configuration need not."""
    space = study.spec.space
    return {name: value for name, value in values.items() if name in space and space[name].contains(value)}
