"""What a valid specification probably gets wrong: said before anything is spent, never refused."""

from __future__ import annotations

from collections.abc import Iterator

from hpo.search.forecast import trainings
from hpo.search.pruning_audit import ENOUGH_CONTROLS, LEAST_CONTROLS
from hpo.search.rungs import training_rungs
from hpo.spec.seeds import is_control
from hpo.spec.study import Spec
from trainers.api import TrainConfig
from trainers.schedule import rising_epochs


def advice(spec: Spec) -> list[str]:
    """Warnings, each one sentence; none is the normal case."""
    return [*_early_rungs(spec), *_few_controls(spec)]


def _early_rungs(spec: Spec) -> Iterator[str]:
    """Values of a training that still warms up say little about how it ends."""
    if not spec.asha.enabled:
        return
    found = [(rising_epochs(train), _first(spec, train)) for train in trainings(spec)]
    early = [(rising, first) for rising, first in found if first < rising]
    if early:
        rising, first = max(early, key=lambda one: one[0] - one[1])
        yield (
            f"the grace period ends inside the warm-up{'' if len(early) == len(found) else ' of some configurations'}: "
            f"they are judged after epoch {first}, while the learning rate rises for {rising:g} epochs; "
            "raise asha.grace_period, or shorten train.warmup_epochs"
        )


def _few_controls(spec: Spec) -> Iterator[str]:
    """A share of controls that costs something and tells nothing."""
    share, trials = spec.asha.controls, spec.budget.trials
    count = sum(is_control(spec.seed, number, share) for number in range(trials))
    if spec.asha.enabled and share and count < LEAST_CONTROLS:
        yield (
            f"asha.controls: {share:g} of {trials} trials makes {count} controls; hpo audit needs at least "
            f"{LEAST_CONTROLS}, and {ENOUGH_CONTROLS} for advice"
        )


def _first(spec: Spec, train: TrainConfig) -> int:
    """After which epoch a training is judged first; its last where it meets no rung."""
    return min(training_rungs(spec, train), default=train.epochs)
