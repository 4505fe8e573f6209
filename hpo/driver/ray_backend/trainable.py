"""The part that runs in a Ray actor: one trainer at a time, in a process that serves many trials."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import functools
import os
import socket
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import ray
from pydantic import TypeAdapter
from ray import tune

from hpo.driver.ray_backend.proof import Lacking, imported, proved
from hpo.driver.ray_backend.trainer_report import as_iterator, checked, described
from hpo.ledger.outcome import Cause, cause_of, lacks_memory
from hpo.ledger.records import Phase
from hpo.redact import LONGEST, shortened
from trainers import devices
from trainers.api import Context, EpochMetrics, Notice, RecordingFailed, Trainer, TrainerError, TrialConfig

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE}
"""Errors of a disk. No trial causes them, and the next trial would meet them too."""
PREDECESSOR_S = 60.0
"""Seconds that a trial waits for its earlier worker to end; Ray ends the workers of a dead driver in seconds."""


class DeviceLost(Exception):
    """This process can no longer use its device. Ray ends the process and its trial, which comes again in another
    process."""


class ProcessSpent(Exception):
    """This process can serve no more trials, because of what earlier ones or this one did to it. It ends like one of
    a lost device."""


class Worker(tune.Trainable):
    """Runs a trainer and reports each epoch.

    With Ray's actor reuse the process serves one trial after another, with every import, data set and model that the
    trainer's modules cache.
    """

    _warm = False
    """Whether this process has served a trial: what the next one needs is imported and read."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take a trial. Nothing here can fail, because Ray retries an actor that dies in its set-up."""
        self._job = config
        self._epochs: Iterator[EpochMetrics] | None = None
        self._epoch: int | None = None
        self._lock: TextIO | None = None
        self._phase: Phase | None = None if config.get("announce", False) else "training"
        self._train: Trainer | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in the same process."""
        self._close()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch. The steps before the first one each say what is done next, and where, so that the driver
        knows it if the process dies.

        A trainer's exception becomes a report, not a crash, because it must not be retried.

        Raises:
            DeviceLost: the failure made the device unusable, so the next trial would fail here too.
            ProcessSpent: so would it for lack of file descriptors, or after a recording that failed.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", Notice)
            report = self._step()
        texts = [str(warning.message) for warning in caught if issubclass(warning.category, Notice)]
        return report | {"warnings": texts} if texts else report

    def _step(self) -> dict[str, Any]:
        try:
            if self._phase != "training":
                self._phase = self._prepare()
                return self._report(phase=self._phase)
            if self._epochs is None:
                self._epochs = self._begin()
            metrics = checked(next(self._epochs), self._epoch, self._job.get("objective", "val_accuracy"))
            self._epoch = metrics.epoch
        except Lacking as error:
            return self._report(lacking=str(error))
        except StopIteration:
            return self._failure("the trainer ended before its last epoch", Cause.TRAINER)
        except SystemExit as error:
            if hasattr(error, "ray_terminate_msg"):  # Ray ends this process; the trial comes again in another one
                raise
            self._close()
            said = f"the trainer called sys.exit({error.code!r}); raise an exception instead"
            return self._failure(said, cause_of(error))
        except MemoryError as error:
            self._close()
            said = f"MemoryError: the host is out of memory\n{traceback.format_exc(limit=-6)}"
            return self._failure(said, cause_of(error))
        except BaseException as error:  # whatever a trainer raises ends its trial, not the study
            # That includes KeyboardInterrupt: Ray lets no SIGINT reach a worker.
            trace = "" if isinstance(error, TrainerError) else f"\n{traceback.format_exc(limit=-6)}"
            self._close()
            if isinstance(error, OSError) and error.errno in DISK:
                return self._disk_trouble(error)
            if isinstance(error, OSError) and error.errno == errno.EMFILE:
                raise ProcessSpent("its process had too many open files, perhaps of earlier trials") from error
            if isinstance(error, RecordingFailed):
                raise ProcessSpent(str(error)) from error
            self._check_device(error)
            return self._failure(f"{described(error)}{trace}", cause_of(error), memory=lacks_memory(error))
        return self._report(metrics={k: v for k, v in dataclasses.asdict(metrics).items() if v is not None})

    def _check_device(self, error: BaseException) -> None:
        """Raises DeviceLost if the device has failed, of which `error` was only a symptom."""
        if trouble := devices.device_error(self._job["device"]):
            raise DeviceLost(f"{self._job['device']} failed: {trouble}") from error

    def cleanup(self) -> None:
        """The actor ends."""
        self._close()

    def _disk_trouble(self, error: OSError) -> dict[str, Any]:
        """All nodes share the disk of the checkpoints; other disks are the node's own."""
        place = str(error.filename or self._job["checkpoints"])
        said = f"{error.strerror} at {place}"
        shared = place.startswith(self._job["checkpoints"].rpartition("/")[0])
        return self._report(broken=said) if shared else self._report(lacking=f"has disk trouble: {said}")

    def _prepare(self) -> Phase:
        """Do what the last report has said, before the trainer begins; returns what comes next.

        Raises:
            Lacking: this node lacks something that every trial needs.
        """
        if self._phase == "reading":
            self._train = proved(self._job["trainer"], *self._given())
            return "training"
        if self._phase == "importing":
            imported(self._job["trainer"])
            return "reading"
        return "training" if self._warm else "importing"

    def _given(self) -> tuple[TrialConfig, Context]:
        """What the trainer is given."""
        from trainers.checkpoint import DirectoryStore

        job = self._job
        return _configuration().validate_python(job["training"]), Context(
            seed=job["seed"],
            checkpoints=DirectoryStore(job["checkpoints"]),
            device=job["device"],
            device_share=job.get("device_share", 1.0),
            threads=job["threads"],
            cache_dir=job["cache_dir"],
        )

    def _begin(self) -> Iterator[EpochMetrics]:
        """Start the trainer.

        Raises:
            Lacking: this node lacks something that every trial needs.
        """
        job = self._job
        config, context = self._given()
        train = self._train or proved(job["trainer"], config, context)
        self._warm = True
        if trouble := _unusable(job["device"]):  # after the import of the trainer, which may load torch
            raise Lacking(f"cannot use {job['device']}: {trouble}")
        self._lock = _only_writer(job["checkpoints"])
        return as_iterator(train(config, context))

    def _failure(self, text: str, cause: Cause, *, memory: bool = False) -> dict[str, Any]:
        return self._report(failure=text, cause=cause.value, **({"memory": True} if memory else {}))

    def _report(self, **report: Any) -> dict[str, Any]:
        report |= {key: shortened(report[key], LONGEST) for key in ("failure", "broken", "lacking") if key in report}
        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else ""
        place = {"host": _host(), "node": node, "device": self._job["device"], "pid": os.getpid()}
        return {"number": self._job["number"], **place, **report}

    def _close(self) -> None:
        if self._epochs is not None and hasattr(self._epochs, "close"):
            # An error in a trainer's `finally` must not end this process: the trial's outcome is decided already.
            with suppress(BaseException):
                self._epochs.close()
        self._epochs = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None


@functools.lru_cache(maxsize=1)
def _configuration() -> TypeAdapter[TrialConfig]:
    """Built once per process: reading the annotations takes longer than a short trial."""
    return TypeAdapter(TrialConfig)


@functools.lru_cache(maxsize=1)
def _unusable(device: str) -> str | None:
    """Why this process could not use its device before its first trial; None if it could. No trial causes that, and
    the next one would meet it too."""
    return devices.device_error(device)


def _host() -> str:
    return socket.gethostname()


def _only_writer(checkpoints: str) -> TextIO | None:
    """A lock on a trial's checkpoints, in case a worker of a dead driver still trains the trial.

    Raises:
        TimeoutError: the earlier worker does not end.
    """
    if "://" in checkpoints:
        return None
    path = Path(f"{checkpoints}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("w")
    deadline = time.monotonic() + PREDECESSOR_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.close()
                raise TimeoutError(f"another process still trains this trial after {PREDECESSOR_S:.0f} s") from None
            time.sleep(0.2)
