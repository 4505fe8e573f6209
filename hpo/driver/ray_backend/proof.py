"""What a worker proves before it trains: that its node can import the trainer, and has the data and the weights.

The driver has seen all of it on its own machine. So whatever is missing here is the node's fault and no trial's.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from hpo.driver.ray_backend.trainer_report import described
from hpo.ledger.outcome import Cause, cause_of
from trainers.api import Context, Trainer, TrialConfig

PROVE = "prove"
"""Optional function beside the trainer, `prove(config, context)`: see `trainers.api.Trainer`."""


class Lacking(Exception):
    """This node cannot train any trial. The text follows the host's name and says what to do."""


def imported(trainer: str) -> tuple[Trainer, Callable[[TrialConfig, Context], None] | None]:
    """The trainer `module:function`, and its `prove` if it has one.

    Raises:
        Lacking: it cannot be imported.
    """
    module, function = trainer.split(":")
    try:
        loaded = importlib.import_module(module)
        return cast(Trainer, getattr(loaded, function)), getattr(loaded, PROVE, None)
    except Exception as error:
        raise Lacking(
            f"cannot import the trainer {trainer}: {described(error)}; install it there, or start `hpo` "
            f"in the folder of its module"
        ) from error


def proved(trainer: str, config: TrialConfig, context: Context) -> Trainer:
    """The trainer, on a node that has what a trial of it needs.

    Raises:
        Lacking: the node lacks something.
        Exception: the configuration itself is at fault, as the trainer would find, too.
    """
    train, prove = imported(trainer)
    try:
        if prove is not None:
            prove(config, context)
    except Exception as error:
        if cause_of(error) is not Cause.MACHINE:
            raise
        raise Lacking(f"lacks what the trainer needs: {described(error)}") from error
    return train
