"""What caused a trial's failure, from its exception; and how that is stored."""

from __future__ import annotations

import errno

import pytest
import torch

from hpo.ledger.attributes import outcome_from_json, outcome_to_json
from hpo.ledger.outcome import Cause, Ending, Outcome, cause_of
from trainers.api import DataError, Diverged, OutOfMemory, TrainerError, WeightsError


def raised_from(cause: BaseException) -> BaseException:
    error = RuntimeError("the set-up failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OutOfMemory("300 px"), Cause.CONFIGURATION),
        (torch.OutOfMemoryError("CUDA out of memory"), Cause.CONFIGURATION),
        (MemoryError(), Cause.CONFIGURATION),
        (Diverged("NaN"), Cause.CONFIGURATION),
        (ValueError("x"), Cause.UNCLEAR),
        (RuntimeError("CUDA error: no kernel image is available"), Cause.UNCLEAR),
        (TrainerError("a report that is none"), Cause.TRAINER),
        (SystemExit(1), Cause.TRAINER),
        (NameError("loss"), Cause.TRAINER),
        (ModuleNotFoundError("No module named 'lightning'"), Cause.MACHINE),
        (FileNotFoundError("/data/train.bin"), Cause.MACHINE),
        (PermissionError("/data"), Cause.MACHINE),
        (OSError(errno.ENOSPC, "No space left on device"), Cause.MACHINE),
        (ConnectionRefusedError(), Cause.MACHINE),
        (DataError("no images"), Cause.MACHINE),
        (WeightsError("no weights"), Cause.MACHINE),
        (raised_from(FileNotFoundError("/data/train.bin")), Cause.MACHINE),
        (raised_from(ZeroDivisionError()), Cause.UNCLEAR),
    ],
)
def test_an_exception_tells_what_caused_it(error: BaseException, cause: Cause) -> None:
    assert cause_of(error) == cause


def test_an_exception_that_was_raised_from_itself_has_an_unclear_cause() -> None:
    error = ValueError("x")
    error.__cause__ = error
    assert cause_of(error) is Cause.UNCLEAR


@pytest.mark.parametrize("cause", [*Cause, None])
def test_the_cause_of_a_failure_is_stored_and_a_record_without_it_can_be_read(cause: Cause | None) -> None:
    outcome = Outcome(Ending.FAILED, "because", cause)
    stored = outcome_to_json(outcome)
    assert outcome_from_json(stored) == outcome
    assert ("cause" in stored) == (cause is not None)
