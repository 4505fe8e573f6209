"""Environments for the search tools of others, whose pins exclude each other.

    python -m reports.benchmarks.search.peers.environments --folder DIR

Each tool gets a virtual environment in the folder, filled by pip as it is set up on this machine. An environment that
is complete is left alone. One that cannot be made is named with the reason, here and in the table of the benchmark.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from reports.benchmarks.search.peers.registry import ENVIRONMENTS, Recipe


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m reports.benchmarks.search.peers.environments", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--folder", type=Path, required=True, help="where the environments are, or will be")
    parser.add_argument("names", nargs="*", help=f"which ones ({' '.join(ENVIRONMENTS)})")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(ENVIRONMENTS):
        parser.error(f"no environment is called {', '.join(sorted(unknown))}; there are {', '.join(ENVIRONMENTS)}")
    failed = False
    for name in options.names or ENVIRONMENTS:
        failure = make(options.folder, name, ENVIRONMENTS[name])
        print(f"{name}: {failure or 'ready'}", flush=True)
        failed |= failure is not None
    return int(failed)


def make(folder: Path, name: str, recipe: Recipe) -> str | None:
    """Make an environment unless it is complete. Return why it could not be made."""
    place, marker = folder / name, _marker(folder, name)
    if marker.exists() and marker.read_text() == repr(recipe):
        return None
    marker.unlink(missing_ok=True)
    venv.create(place, clear=True, with_pip=False)
    failure = _install(place, recipe.requirements) or _install(place, recipe.alone, "--no-deps")
    if failure is not None:
        marker.with_suffix(".failed").write_text(failure)
        return failure
    if recipe.borrows:
        _borrow(place)
    marker.with_suffix(".failed").unlink(missing_ok=True)
    marker.write_text(repr(recipe))
    return None


def missing(folder: Path | None, name: str) -> str | None:
    """Return why an environment cannot be used, or None."""
    if folder is None:
        return f"needs the environment {name}: give --environments"
    if _marker(folder, name).exists():
        return None
    failed = _marker(folder, name).with_suffix(".failed")
    if failed.exists():
        return f"its environment could not be made: {failed.read_text()}"
    return f"{folder / name} is no complete environment: make it with reports.benchmarks.search.peers.environments"


def _marker(folder: Path, name: str) -> Path:
    """Written last, with the recipe."""
    return folder / f"{name}.made"


def _install(place: Path, requirements: tuple[str, ...], *flags: str) -> str | None:
    if not requirements:
        return None
    python = str(place / "bin" / "python")
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *flags]
    done = subprocess.run([*command, *requirements], capture_output=True, text=True)
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
    return errors[-1].removeprefix("ERROR:").strip() if errors else f"pip ended with exit code {done.returncode}"


def _borrow(place: Path) -> None:
    """Let it import what it lacks from the benchmark's own environment, after its own packages."""
    own = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text("\n".join(own) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
