"""`hpo doctor`: what is wrong with this machine, or with a study's records, and what to do about it."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hpo.errors import HpoError
from hpo.home import Home
from hpo.redact import redact
from hpo.spec.study import Ray
from trainers.api import DataConfig, DataError, ModelConfig, WeightsError

if TYPE_CHECKING:
    from hpo.tracking.plots import Figures

LOW_DISK_BYTES = 5e9
RAY_START_S = 180.0


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    state: Literal["ok", "differs", "warning", "failed"]
    subject: str
    text: str


def examine(home: Home, name: str | None, figures: Figures | None = None) -> int:
    """Print every finding; 1 if any failed. With a study's name MLflow is compared with its ledger, and what
    differs is shown and then repaired; with `figures` its plots too."""
    checks: list[Callable[[], Finding]] = [
        _python,
        *[_import(package) for package in ("torch", "torchvision", "timm", "ray.tune", "optuna", "mlflow")],
        _cuda,
        lambda: _home(home),
        lambda: _disk(home),
        lambda: _ledger(home),
        lambda: _tracking(home),
    ]
    if name is None:  # these take their time and say nothing of a study
        checks += [lambda: _data("cifar10"), lambda: _data("cifar100"), _weights, _ray]
    worst = 0
    for check in checks:
        worst = max(worst, _show(_run(check)))
    if name is not None:
        for finding in _study(home, name, figures):
            worst = max(worst, _show(finding))
    return worst


def _show(finding: Finding) -> int:
    head = f"{finding.state:8} {finding.subject:14} "
    print(f"{head}{_wrapped(redact(finding.text), len(head))}", flush=True)
    return int(finding.state == "failed")


def _wrapped(text: str, indent: int) -> str:
    """On a terminal in lines of its width, so many columns from the left; words such as paths stay whole."""
    if not sys.stdout.isatty():
        return text
    width = max(30, shutil.get_terminal_size().columns - indent)
    return f"\n{' ' * indent}".join(textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False))


def _run(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except HpoError as error:
        return Finding("failed", "study", str(error))


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    supported = (3, 10) <= sys.version_info[:2] <= (3, 13)
    return Finding("ok" if supported else "warning", "Python", f"{version} (3.10 to 3.13 are tested)")


def _import(package: str) -> Callable[[], Finding]:
    def check() -> Finding:
        try:
            module = importlib.import_module(package)
        except Exception as error:  # noqa: BLE001 - a broken build raises anything, and that is the finding
            return Finding(
                "failed",
                package,
                f"cannot be imported: {error}. Install it again: pip install --force-reinstall",
            )
        root = sys.modules[package.partition(".")[0]]
        return Finding("ok", package, str(getattr(module, "__version__", getattr(root, "__version__", ""))))

    return check


def _cuda() -> Finding:
    from trainers.devices import cuda_devices

    devices = cuda_devices()
    if devices:
        return Finding("ok", "CUDA", "; ".join(devices))
    return Finding("warning", "CUDA", "no device: studies run on the CPU, which suits only small ones")


def _ray() -> Finding:
    """Starts the Ray of this machine, or joins the cluster that RAY_ADDRESS names."""
    place = Ray().cluster() or "this machine"
    try:
        command = [sys.executable, "-m", "hpo.driver.ray_backend.probe"]
        probe = subprocess.run(command, capture_output=True, text=True, timeout=RAY_START_S, check=True)
    except subprocess.TimeoutExpired:
        advice = "see /tmp/ray/session_latest/logs, and that no firewall stands between processes of this machine"
        return Finding("failed", "Ray", f"{place} did not answer within {RAY_START_S:.0f} s; {advice}")
    except subprocess.CalledProcessError as error:
        reason = str(error.stderr).strip().splitlines()[-1]
        return Finding("failed", "Ray", f"{place}: {reason}")
    return Finding("ok", "Ray", f"{place}: {probe.stdout.strip()}")


def _data(name: Literal["cifar10", "cifar100"]) -> Finding:
    from trainers.data.cifar import verify

    config = DataConfig(name=name)
    try:
        verify(config)
    except DataError as error:
        return Finding("warning", "data set", str(error))
    return Finding("ok", "data set", f"{name} is complete in {config.root}")


def _weights() -> Finding:
    """Those of the default model; others are had in the same way."""
    from trainers.network.weights import check

    model = ModelConfig()
    try:
        check(model)
    except WeightsError as error:
        return Finding("warning", "weights", str(error))
    return Finding("ok", "weights", f"{model.name} is cached or can be fetched")


def _home(home: Home) -> Finding:
    if not home.path.exists():
        return Finding("ok", "home", f"{home.path} (made by the first study)")
    usable = os.access(home.path, os.W_OK | os.X_OK)
    return Finding(
        "ok" if usable else "failed", "home", f"{home.path}{'' if usable else ' is not writable; use --home'}"
    )


def _disk(home: Home) -> Finding:
    folder = next(parent for parent in (home.path, *home.path.parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB free at {folder}"
    return (
        Finding("ok", "disk", text)
        if free > LOW_DISK_BYTES
        else Finding("warning", "disk", f"{text}; checkpoints may not fit")
    )


def _ledger(home: Home) -> Finding:
    from hpo.ledger.reader import study_names
    from hpo.ledger.sqlite import network_file_system, network_warning
    from hpo.ledger.storage import open_existing

    if not (home.path / "optuna.db").is_file():
        return Finding("ok", "ledger", "no study yet")
    count = f"{len(study_names(open_existing(home)))} studies"
    kind = network_file_system(home.ledger_url)
    return Finding("warning", "ledger", f"{count}; {network_warning(kind)}") if kind else Finding("ok", "ledger", count)


def _tracking(home: Home) -> Finding:
    from hpo.tracking.preflight import check_store
    from hpo.tracking.runs import tracking_uri

    uri = tracking_uri(home)
    check_store(uri)
    return Finding("ok", "tracking", "the home folder" if uri == home.mlflow_url else uri)


def _study(home: Home, name: str, figures: Figures | None = None) -> Iterator[Finding]:
    """Compare a study's MLflow runs with its ledger, show what differs, and repair it."""
    from hpo.ledger.lock import Lease, study_lock
    from hpo.ledger.reader import load_study
    from hpo.ledger.storage import open_existing
    from hpo.ledger.writer import Ledger
    from hpo.tracking.mirror import Mirror
    from hpo.tracking.preflight import check_tracking

    try:
        storage = open_existing(home, name)
        spec = load_study(storage, name).spec
        if not spec.tracking.enabled:
            yield Finding("ok", "MLflow", f"{name} is not tracked (tracking.enabled is false)")
            return
        check_tracking(spec, home)
        with study_lock(home.study(name)):
            ledger = Ledger.open(storage, name, lease=Lease.here(str(home.study(name))))
            mirror = Mirror(ledger.study, home)
            plots = figures is not None
            differences = mirror.differences(ledger.study, plots=plots)
            yield from (Finding("differs", "MLflow", line) for line in differences)
            if differences:
                mirror.repair(ledger.study)
                if figures is not None:
                    mirror.study_run.draw(ledger.study, figures(ledger.study))
                for number, run in mirror.runs.items():
                    if ledger.trial(number).mlflow_run_id != run:
                        ledger.link_run(number, run)
                left = Mirror(ledger.study, home).differences(ledger.study, plots=plots)
                yield from (Finding("failed", "MLflow", f"could not be repaired: {line}") for line in left)
            ledger.close()
            repaired = f"; {len(differences)} differences repaired" if differences else ""
            yield Finding("ok", "MLflow", f"{len(ledger.trials)} trials of {name} agree with the ledger{repaired}")
    except HpoError as error:
        yield Finding("failed", "study", str(error))
