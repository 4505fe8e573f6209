"""Parameter importances by Optuna's evaluators, on trials rebuilt in memory. The one report file that uses Optuna."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from hpo.ledger.records import Scalar, StudyRecord
from hpo.search.distributions import distributions
from reports.analysis.stages import FEW_TRIALS, comparable_epoch, latest_epoch, reached, value_after

METHOD = "PED-ANOVA (arXiv 2304.10255, Optuna's implementation)"
TOP_SHARE = 0.1
TOP_TRIALS = 5
"""PED-ANOVA's authors advise to have at least this many trials in the top share."""


@dataclass(frozen=True)
class Importances:
    """Shares that sum to 1 by parameter, greatest first."""

    shares: Mapping[str, float]
    epoch: int
    """Values were compared after this many epochs."""
    trials: int
    """How many trials reached it."""
    top_share: float

    @property
    def top_words(self) -> str:
        """What was compared, in words."""
        return f"the best {100 * self.top_share:.0f} % of {self.trials} trials after epoch {self.epoch}"


def importances(study: StudyRecord) -> tuple[Importances, ...]:
    """Importances where enough trials compare, then, if few got further, among those as well; often empty.

    Comparing values after the same number of epochs keeps pruning out of the question: a trial stopped early
    has a low last value whatever its parameters. What few trials say is rough, but nearer to the end.
    """
    epochs = dict.fromkeys((comparable_epoch(study), latest_epoch(study, FEW_TRIALS)))
    found = [_at(study, epoch) for epoch in epochs if epoch is not None]
    return tuple(one for one in found if one is not None)


def _at(study: StudyRecord, epoch: int) -> Importances | None:
    values = [(trial.values, value_after(trial, epoch)) for trial in reached(study, epoch)]
    return _evaluate(study, epoch, [(one, value) for one, value in values if value is not None])


def _evaluate(study: StudyRecord, epoch: int, results: list[tuple[Mapping[str, Scalar], float]]) -> Importances | None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    available = distributions(study.spec.space)
    rebuilt = optuna.create_study(
        storage=optuna.storages.InMemoryStorage(), direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0)
    )
    rebuilt.add_trials(
        optuna.trial.create_trial(params=inside, distributions={name: available[name] for name in inside}, value=value)
        for values, value in results
        for inside in [_inside(study, values)]
    )
    share = min(0.5, max(TOP_SHARE, TOP_TRIALS / len(results)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # equal values and little data are told by the result
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=share)
        found = optuna.importance.get_param_importances(rebuilt, evaluator=evaluator)
    if not found or not all(math.isfinite(one) for one in found.values()) or len({v for _, v in results}) == 1:
        return None
    return Importances(dict(found), epoch, len(results), share)


def _inside(study: StudyRecord, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """What lies in the space: an enqueued configuration may stand outside."""
    known = study.spec.space
    return {name: value for name, value in values.items() if name in known and known[name].contains(value)}
