"""What a full training of a configuration costs, whatever machine it runs on."""

from __future__ import annotations

from collections.abc import Sequence

from hpo.ledger.records import TrialRecord
from hpo.spec.configure import configure
from hpo.spec.study import SHIPPED_TRAINER, Spec
from trainers import schedule


def training_compute(spec: Spec, configurations: Sequence[Sequence[TrialRecord]]) -> list[float | None]:
    """The compute of one full training of each configuration, in one unit for all; None where it is not known yet.

    The shipped trainer computes epochs x px^2 of its stages. Another trainer reports its compute; if it does not, the
    epochs count. If the networks may differ in size, both are multiplied by the multiply-accumulates per px^2 of one
    image. That needs a report of them from every configuration that has trained for all its epochs.

    Args:
        configurations: the repeats of each.
    """
    shipped = spec.trainer == SHIPPED_TRAINER
    costs = [_pixels(spec, trials[0]) if shipped else (_reported(spec, trials), 1) for trials in configurations]
    ends = [next((trial.last for trial in trials if trial.complete), None) for trials in configurations]
    known = [end.macs is not None for end in ends if end]
    varied = {*spec.space, *(name for trials in configurations for name in trials[0].assigned)}
    networks_differ = not shipped or any(name.startswith("model.") for name in varied)
    if not (networks_differ and known and all(known)):
        return [cost for cost, _ in costs]
    return [
        cost * end.macs / size**2 if end and end.macs is not None else None
        for (cost, size), end in zip(costs, ends, strict=True)
    ]


def _pixels(spec: Spec, trial: TrialRecord) -> tuple[float, int]:
    """Epochs x px^2, and the image size of the evaluation, for which multiply-accumulates are reported."""
    train = configure(spec.base(), trial.assigned).train
    stages = schedule.stages(train.progressive, train.epochs)
    cost = sum((stage.last_epoch - stage.first_epoch + 1) * stage.size**2 for stage in stages)
    return float(cost), train.eval_size or stages[-1].size


def _reported(spec: Spec, trials: Sequence[TrialRecord]) -> float:
    reported = [trial.last.compute for trial in trials if trial.last and trial.last.compute is not None]
    return max(reported, default=float(spec.train.epochs))
