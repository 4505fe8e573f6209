"""What runs inside a Ray actor: one trainer at a time, on a process that stays warm between trials."""

from __future__ import annotations

import dataclasses
import importlib
import os
import socket
import traceback
from collections.abc import Iterator
from typing import Any, cast

from pydantic import TypeAdapter
from ray import tune

from trainers.api import Context, EpochMetrics, Trainer, TrainerError, TrialConfig


class Worker(tune.Trainable):  # type: ignore[misc]
    """Runs a trainer and reports each epoch. With Ray's actor reuse the process, and with it every import, data
    set and model that the trainer's modules cache, serves one trial after another."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take a trial. Nothing that can fail happens here: an actor that dies in its set-up is retried."""
        self._job = config
        self._epochs: Iterator[EpochMetrics] | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial on the same process."""
        self._close()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """One epoch. A trainer's exception is a report, not a crash: it must not be retried."""
        try:
            if self._epochs is None:
                self._epochs = self._begin()
            metrics = next(self._epochs)
        except StopIteration:
            return self._report(failure="the trainer ended before its last epoch")
        except TrainerError as error:
            self._close()
            return self._report(failure=f"{type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001 - whatever a trainer raises ends its trial, not the study
            trace = traceback.format_exc(limit=-6)
            self._close()
            return self._report(failure=f"{type(error).__name__}: {error}\n{trace}")
        return self._report(metrics={k: v for k, v in dataclasses.asdict(metrics).items() if v is not None})

    def cleanup(self) -> None:
        """The actor ends."""
        self._close()

    def _begin(self) -> Iterator[EpochMetrics]:
        from trainers.checkpoint import DirectoryStore

        job = self._job
        module, function = job["trainer"].split(":")
        train = cast(Trainer, getattr(importlib.import_module(module), function))
        config = TypeAdapter(TrialConfig).validate_python(job["training"])
        context = Context(
            seed=job["seed"],
            checkpoints=DirectoryStore(job["checkpoints"]),
            device=job["device"],
            threads=job["threads"],
            cache_dir=job["cache_dir"],
        )
        return train(config, context)

    def _report(self, **report: Any) -> dict[str, Any]:
        place = {"host": socket.gethostname(), "device": self._job["device"], "pid": os.getpid()}
        return {"number": self._job["number"], **place, **report}

    def _close(self) -> None:
        if self._epochs is not None and hasattr(self._epochs, "close"):
            self._epochs.close()
        self._epochs = None
