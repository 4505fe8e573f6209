"""The home folder: everything a study writes, and where."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from hpo.errors import UsageError

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
"""Names of studies. They have no dot and no slash, so that no study folder lies outside the home folder."""
_CONFIRMATION = "confirmation"


def confirmation_of(name: str) -> str:
    """The name under which the ledger and MLflow keep the confirmation of a study; no person can choose it."""
    return f"{name}.{_CONFIRMATION}"


def confirmed_study(name: str) -> str | None:
    """The study that a name from `confirmation_of` belongs to; None for any other name."""
    study, dot, part = name.partition(".")
    return study if dot and part == _CONFIRMATION else None


def _place(path: Path | None) -> Path:
    """The folder that `path`, the environment or the default means."""
    return (path or Path(os.environ.get("HPO_HOME") or "runs")).expanduser().resolve()


@dataclass(frozen=True)
class Home:
    """Paths below one home folder (`--home`, `HPO_HOME`, else `./runs`)."""

    path: Path

    @classmethod
    def at(cls, path: Path | None = None) -> Home:
        """The home folder asked for; not created yet.

        Raises:
            UsageError: what is there is no folder, or cannot be read.
        """
        home = cls(_place(path))
        try:
            os.scandir(home.path).close()
        except FileNotFoundError:
            return home
        except OSError as error:
            raise home._unusable(error) from error
        return home

    @property
    def usual(self) -> bool:
        """Whether commands find it without `--home`."""
        return self.path == _place(None)

    def _unusable(self, error: OSError) -> UsageError:
        reason = "it is a file" if os.path.isfile(self.path) else error.strerror  # Path.is_file may raise
        return UsageError(f"the home folder {self.path} cannot be used: {reason}; choose one by --home")

    def create(self) -> Home:
        """Make the folder, for its owner only.

        Raises:
            UsageError: it cannot be made or written to.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o700)
        except OSError as error:
            raise self._unusable(error) from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise UsageError(f"the home folder {self.path} is not writable; choose one by --home")
        return self

    @property
    def ledger_url(self) -> str:
        """The default ledger."""
        return f"sqlite:///{self.path / 'optuna.db'}"

    @property
    def mlflow_url(self) -> str:
        """The default MLflow store (a database of its own: both keep a table `alembic_version`)."""
        return f"sqlite:///{self.path / 'mlflow.db'}"

    @property
    def artifacts(self) -> Path:
        """MLflow's artifacts."""
        return self.path / "mlartifacts"

    @property
    def cache(self) -> Path:
        """Decoded data sets and compiled graphs; may be deleted at any time."""
        return self.path / "cache"

    def study(self, name: str) -> Path:
        """A study's own folder; that of a confirmation lies inside it.

        Raises:
            UsageError: the name is not on the allow-list.
        """
        if (confirmed := confirmed_study(name)) is not None:
            return self.study(confirmed) / _CONFIRMATION
        if not NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no study name: letters, digits, '-' and '_', at most 64, no leading '-'")
        return self.path / "studies" / name

    def ledger_of(self, name: str) -> str:
        """The URL of the ledger that holds the study: the one it was created with, else the home's own."""
        pointer = self.study(confirmed_study(name) or name) / "ledger.url"
        return pointer.read_text().strip() if pointer.is_file() else self.ledger_url

    def remember_ledger(self, name: str, url: str | None) -> None:
        """Note where a study is kept if that is not the home's own ledger; readable by the owner only."""
        if url is not None:
            pointer = self.study(name) / "ledger.url"
            pointer.touch(mode=0o600)
            pointer.write_text(url)

    def checkpoints(self, name: str, root: str | None = None) -> str:
        """Folder or URI below which each trial of a study has a folder of its own for its checkpoints.

        Args:
            root: `storage.checkpoints` of the specification; None for this home folder.
        """
        studies = self.path / "studies"
        return f"{root or studies}/{self.study(name).relative_to(studies)}/checkpoints"

    def incumbent(self, name: str) -> Path:
        """The best configuration of a study so far, always current."""
        return self.study(name) / "best.yaml"

    def exports(self, name: str) -> Path:
        """A study's exported configurations and retrained models."""
        return self.study(name) / "exports"
