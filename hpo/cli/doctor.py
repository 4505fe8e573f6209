"""`hpo doctor`: check this machine and a study's records in MLflow, and name a remedy for each problem."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from hpo.cli import checks
from hpo.cli.checks import Finding
from hpo.cli.programs import documents
from hpo.errors import HpoError
from hpo.home import Home
from hpo.redact import redact
from hpo.text import first_line, shorten

if TYPE_CHECKING:
    from hpo.ledger.writer import Ledger
    from hpo.tracking.process.messages import Figures

_TRIED = (
    "nothing was written, because the last repair left the same differences: this MLflow does not store what it is "
    "sent. Delete the tag hpo.unrepaired of the study run to try again"
)
PACKAGES = ("torch", "torchvision", "timm", "ray.tune", "optuna", "mlflow")


def examine(home: Home, name: str | None, figures: Figures | None = None, *, as_json: bool = False) -> int:
    """Print the finding of each check. Returns 1 if a check failed, otherwise 0.

    Args:
        name: a study. Its records in MLflow are compared with the ledger; differences are printed and repaired.
        figures: draws the plots of the study, to repair them too.
        as_json: print all findings as one document at the end.
    """
    findings = []
    for finding in _findings(home, name, figures):
        findings.append(finding)
        if not as_json:
            _print(finding)
    failed = any(finding.state == "failed" for finding in findings)
    if as_json:
        place = {"study": name, "home": str(home.path.resolve())}
        documents.show("checks", {**place, "failed": failed, "findings": [_json(finding) for finding in findings]})
    return int(failed)


def _json(finding: Finding) -> dict[str, str]:
    return {"subject": finding.subject, "state": finding.state, "text": redact(finding.text)}


def _findings(home: Home, name: str | None, figures: Figures | None) -> Iterator[Finding]:
    machine: list[Callable[[], Finding]] = [
        checks.python,
        *(checks.package(package) for package in PACKAGES),
        checks.cuda,
        lambda: checks.home_folder(home),
        lambda: checks.disk(home),
        lambda: checks.ledger(home),
        lambda: checks.tracking(home),
        lambda: checks.artifacts(home),
    ]
    machine += [partial(checks.half_renamed, home, *names) for names in home.renames()]
    if name is None:  # these are slow and do not depend on a study
        machine += [
            lambda: checks.data_set("cifar10"),
            lambda: checks.data_set("cifar100"),
            checks.weights,
            checks.ray,
        ]
    for check in machine:
        try:
            yield check()
        except HpoError as error:
            yield Finding("failed", "study", str(error))
        except Exception as error:  # noqa: BLE001 - one check that breaks must not hide the others
            yield Finding("failed", "study", _kind(error))
    if name is not None:
        try:
            yield from compare(home, name, figures)
        except HpoError as error:
            yield Finding("failed", "study", str(error))
        except Exception as error:  # noqa: BLE001 - MLflow raises many kinds, and the doctor names every fault
            yield Finding("failed", "MLflow", f"the study cannot be compared: {_kind(error)}")


def _kind(error: Exception) -> str:
    """The kind of an error and the first line of its text, which may be empty."""
    return shorten(f"{type(error).__name__}: {first_line(redact(str(error)))}", 500)


def _print(finding: Finding) -> None:
    head = f"{finding.state:8} {finding.subject:14} "
    print(f"{head}{_wrapped(redact(finding.text), len(head))}", flush=True)


def _wrapped(text: str, indent: int) -> str:
    """The text wrapped to the width of the terminal, further lines indented; words such as paths stay whole."""
    if not sys.stdout.isatty():
        return text
    width = max(30, shutil.get_terminal_size().columns - indent)
    return f"\n{' ' * indent}".join(textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False))


def compare(home: Home, name: str, figures: Figures | None = None) -> Iterator[Finding]:
    """Compare the study's runs in MLflow with the ledger, and repair differences.

    Raises:
        HpoError: there is no such study, another driver runs it, or MLflow does not answer.
    """
    from hpo.driver.steering.renaming import rename
    from hpo.ledger.lock import Lease, study_lock
    from hpo.ledger.reader import load_study, open_existing
    from hpo.ledger.writer import Ledger
    from hpo.tracking.preflight import check_tracking

    for old, new in home.renames():
        if name in (old, new):
            yield Finding("differs", "rename", f"{old} was to be renamed to {new}, which was cut off")
            done, name = rename(old, new, home, say=_say), new
            yield Finding("ok", "rename", "; ".join(["completed", *done.changes]))
    storage = open_existing(home, name)
    spec = load_study(storage, name).spec
    if not spec.tracking.enabled:
        yield Finding("ok", "MLflow", f"{name} is not tracked (tracking.enabled is false)")
        return
    check_tracking(spec, home)
    with study_lock(home.study(name)):
        ledger = Ledger.open(storage, name, lease=Lease.here(str(home.study(name))), say=_say)
        with closing(ledger):
            yield from _repaired(ledger, home, figures)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _repaired(ledger: Ledger, home: Home, figures: Figures | None) -> Iterator[Finding]:
    """Show and repair what differs. Files are apart: their store may refuse them where all records can be written."""
    from hpo.tracking.mirror import Mirror

    plots, mirror = figures is not None, Mirror(ledger.study, home)
    if followed := mirror.store.followed:
        yield Finding("differs", "MLflow", f"{followed} runs had a former name of the study, and have its name now")
    records = mirror.record_differences(ledger.study)
    files = mirror.file_differences(ledger.study, plots=plots)
    yield from (Finding("differs", "MLflow", line) for line in records)
    left, tried_before = records, mirror.gave_up(records)
    if records and not tried_before:
        left = _repair_records(ledger, home)
    left_files, trouble = _repair_files(ledger, home, figures)
    if trouble:
        yield Finding("failed", "MLflow", trouble)  # one message for all files
    else:
        yield from (Finding("differs", "MLflow", line) for line in files)
    yield from (Finding("failed", "MLflow", f"could not be repaired: {line}") for line in left + left_files)
    if tried_before:
        yield Finding("failed", "MLflow", _TRIED)
    if not left and not left_files:
        count = len(records) if trouble else len(records + files)
        repaired = f"; {count} differences repaired" if count else ""
        which = "the records of all" if trouble else "all"
        text = f"{which} {len(ledger.trials)} trials of {ledger.name} agree with the ledger{repaired}"
        yield Finding("ok", "MLflow", text)


def _repair_records(ledger: Ledger, home: Home) -> list[str]:
    """Write to MLflow what the ledger says; the differences that remain, which are not tried again."""
    from hpo.tracking.mirror import Mirror

    mirror = Mirror(ledger.study, home)
    mirror.repair(ledger.study)
    for number, run in mirror.runs.items():
        if ledger.trial(number).mlflow_run_id != run:
            ledger.link_run(number, run)
    ledger.write_notes()
    left = Mirror(ledger.study, home).record_differences(ledger.study)
    if left:
        mirror.give_up(left)
    return left


def _repair_files(ledger: Ledger, home: Home, figures: Figures | None) -> tuple[list[str], str | None]:
    """Write the files that differ; what remains, and what to say of a store that refuses them."""
    from hpo.tracking.mirror import Mirror

    plots, mirror = figures is not None, Mirror(ledger.study, home)
    if not mirror.file_differences(ledger.study, plots=plots):
        return [], mirror.file_trouble
    mirror.repair_files(ledger.study)
    if figures is not None:
        mirror.study_run.draw(ledger.study, figures(ledger.study))
    if mirror.file_trouble:
        return [], mirror.file_trouble
    return Mirror(ledger.study, home).file_differences(ledger.study, plots=plots), None
