"""Where trials that are not complete would probably end, in units of the objective.

The model of `gp` predicts ranks. They become values by interpolation among the values that the study has seen, so what
lies above or below all of these is not told.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpo.ledger.records import StudyRecord
from hpo.search.policies.curve_gp import CurveGPSampler
from hpo.search.samplers import study_sampler
from hpo.spec.objectives import Objective


@dataclass(frozen=True)
class PredictedEnd:
    """What the model expects of a trial at its last epoch."""

    score: float
    """Larger is better; of an accuracy as a fraction."""
    deviation: float
    """Half of what lies between one standard deviation below and one above."""

    def shown(self, objective: Objective) -> str:
        """`predicted 93.1 ± 0.6 %`."""
        return f"predicted {objective.show_estimate(self.score, self.deviation)}"


def predicted_ends(study: StudyRecord) -> dict[int, PredictedEnd]:
    """The predicted ends of trials that have trained, are not complete and have not failed, by number.

    Empty for a study without landing, and while there is too little to learn from. Trials whose end cannot be told are
    left out.
    """
    if not study.spec.search.landing:
        return {}
    sampler = study_sampler(study.spec)
    assert isinstance(sampler, CurveGPSampler), "landing needs search.policy: gp"
    history = sampler.history()
    history.take_in([sampler.seen(trial) for trial in study.trials if trial.started])
    expected = sampler.ends(history, [], study.transfer.history)
    if expected is None:
        return {}
    scale, found = sampler.scale(history), dict[int, PredictedEnd]()
    for trial in study.trials:
        if trial.complete or trial.status == "failed" or not trial.epochs or trial.number not in expected[0]:
            continue
        mean, deviation = expected[0][trial.number]
        low, middle, high = (scale.value(mean + sign * deviation) for sign in (-1, 0, 1))
        if low is not None and middle is not None and high is not None:
            found[trial.number] = PredictedEnd(middle, (high - low) / 2)
    return found
