"""What `hpo mcp --allow-steering` may do to studies. Each method is a tool, and the same as a command of the shell."""

from __future__ import annotations

import json
from typing import Any

from hpo.driver.steering.asking import ask
from hpo.driver.steering.configurations import configuration
from hpo.home import Home
from hpo.ledger.steering.requests import Kind

Setting = bool | int | float | str


class Steering:
    """Asks the drivers of the studies of one home folder."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def stop_study(self, study: str) -> dict[str, Any]:
        """Stop a running study in order. It can be resumed: its trials continue from their last checkpoints."""
        return self._ask(study, "stop")

    def stop_trial(self, study: str, trial: int) -> dict[str, Any]:
        """Stop one running trial for good. The study continues. trial: its number."""
        return self._ask(study, "stop_trial", trial=trial)

    def pause_study(self, study: str) -> dict[str, Any]:
        """Pause a running study, so that its GPUs are free. continue_study ends the pause."""
        return self._ask(study, "pause")

    def continue_study(self, study: str) -> dict[str, Any]:
        """End the pause of a study."""
        return self._ask(study, "continue")

    def add_configuration(self, study: str, values: dict[str, Setting], like: int | None = None) -> dict[str, Any]:
        """Add a configuration: it is the next one that is tried.

        values: searched parameters by dotted name, for example {"train.lr": 0.02}. like: number of the trial that has
        the values that are not given; without it, the baseline has them.
        """
        return self._ask(study, "add", values=configuration(self._home, study, _assignments(values), like))

    def change_settings(self, study: str, settings: dict[str, Setting]) -> dict[str, Any]:
        """Change settings of a running study that a resume may change, for example {"budget.trials": 80}."""
        return self._ask(study, "set", overrides=tuple(_assignments(settings)))

    def _ask(self, study: str, kind: Kind, **content: Any) -> dict[str, Any]:
        return ask(self._home, study, kind, **content).to_json()


def _assignments(values: dict[str, Setting]) -> list[str]:
    """`dotted.key=value`, as on the command line; JSON is YAML."""
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]
