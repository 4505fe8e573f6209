"""The home folder: the paths of everything that studies write."""

from __future__ import annotations

import errno
import os
import re
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hpo.errors import UsageError
from hpo.sqlite_urls import sqlite_file, sqlite_url

NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
"""Names of studies. They have no dot and no slash, so that no study folder lies outside the home folder."""
LONGEST = 470
"""Bytes that the path of a home folder may have: SQLite opens files whose path has at most 504."""
_CONFIRMATION = "confirmation"


def confirmation_of(name: str) -> str:
    """The name of a study's confirmation in the ledger and in MLflow. No study can have this name."""
    return f"{name}.{_CONFIRMATION}"


def confirmed_study(name: str) -> str | None:
    """The study whose confirmation has this name; None if the name is not one of a confirmation."""
    study, dot, part = name.partition(".")
    return study if dot and part == _CONFIRMATION else None


def expanded(path: str | Path) -> Path:
    """The path with `~` and `~NAME` replaced by the home folder of that user.

    Raises:
        FileNotFoundError: this machine knows no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(errno.ENOENT, f"{Path(path).parts[0]} is the home folder of nobody") from error


def _place(path: Path | None) -> Path:
    """The absolute home folder: `path`, else the environment variable `HPO_HOME`, else `runs`.

    Raises:
        UsageError: `~NAME` names nobody, or links lead in a circle or through a folder that cannot be read.
    """
    place = path or Path(os.environ.get("HPO_HOME") or "runs")
    try:
        return expanded(place).resolve()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"the home folder {place} cannot be used: {reason}; choose another folder with --home"
        ) from error


def command(words: str, home_option: str, rest: str = "") -> str:
    """A command of this tool as a person is to type it. All texts that name a command to type are made by this.

    Args:
        words: the command and its first arguments, for example `status NAME`.
        home_option: `Home.option` of the home folder that the command is to work on.
        rest: further arguments, which the person may have to complete.
    """
    return f"hpo {words}{home_option}{' ' if rest else ''}{rest}"


@dataclass(frozen=True)
class Home:
    """Paths below one home folder (`--home`, `HPO_HOME`, else `./runs`)."""

    path: Path

    @classmethod
    def at(cls, path: Path | None = None) -> Home:
        """The home folder at `path`, or the default one. Does not create it.

        Raises:
            UsageError: the path is not a folder, or the folder cannot be read.
        """
        home = cls(_place(path))
        try:
            os.scandir(home.path).close()
        except FileNotFoundError:
            return home
        except OSError as error:
            raise home._unusable(error) from error
        return home

    @classmethod
    def of(cls, study: Path | str) -> Home:
        """The home folder that holds the folder of a study: the inverse of `study`."""
        return cls(Path(study).parent.parent)

    @property
    def usual(self) -> bool:
        """Whether commands find this folder without `--home`."""
        return self.path == _place(None)

    @property
    def option(self) -> str:
        """` --home PATH` for commands that a person is to type; empty where commands find this folder without it."""
        return "" if self.usual else f" --home {shlex.quote(str(self.path))}"

    def command(self, words: str, rest: str = "") -> str:
        """A command to type that works on this folder: see `hpo.home.command`."""
        return command(words, self.option, rest)

    def _unusable(self, error: OSError) -> UsageError:
        reason = "it is a file" if os.path.isfile(self.path) else error.strerror  # Path.is_file may raise
        return UsageError(f"the home folder {self.path} cannot be used: {reason}; choose another folder with --home")

    def create(self) -> Home:
        """Create the folder, readable by its owner only. A folder that exists keeps its mode: a team may share it.

        Raises:
            UsageError: the folder cannot be created or written to, or its path is none for a database.
        """
        if (length := len(os.fsencode(self.path))) > LONGEST:
            raise UsageError(
                f"the home folder {self.path} cannot be used: its path has {length} bytes, but SQLite opens databases "
                f"in folders of up to {LONGEST} bytes; choose a shorter path with --home"
            )
        self._database("optuna.db")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise self._unusable(error) from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise UsageError(f"the home folder {self.path} is not writable; choose another folder with --home")
        return self

    @property
    def ledger_url(self) -> str:
        """URL of the default ledger."""
        return self._database("optuna.db")

    @property
    def mlflow_url(self) -> str:
        """URL of the default MLflow store, a database of its own: Optuna also uses a table named `alembic_version`."""
        return self._database("mlflow.db")

    def _database(self, name: str) -> str:
        try:
            return sqlite_url(self.path / name)
        except ValueError as error:
            raise UsageError(f"the home folder {self.path} cannot be used: {error}") from error

    @property
    def artifacts(self) -> Path:
        """Folder of MLflow's artifacts."""
        return self.path / "mlartifacts"

    @property
    def cache(self) -> Path:
        """Folder of decoded data sets and compiled graphs. It may be deleted at any time."""
        return self.path / "cache"

    def study(self, name: str) -> Path:
        """The folder of a study. The folder of its confirmation lies inside it.

        Raises:
            UsageError: the name is not a valid name of a study.
        """
        if (confirmed := confirmed_study(name)) is not None:
            return self.study(confirmed) / _CONFIRMATION
        if not NAME.fullmatch(name):
            rule = "use 1 to 64 letters, digits, '-' and '_', and begin with a letter or digit"
            raise UsageError(f"{name!r} is not a study name: {rule}")
        return self.path / "studies" / name

    def renames(self) -> list[tuple[str, str]]:
        """(old name, new name) of the studies that are being renamed, or whose renaming was cut off."""
        try:
            found = sorted(os.listdir(self._renaming))
        except FileNotFoundError:
            return []
        return [(old, new) for old, _, new in (name.partition(".") for name in found)]

    @property
    def _renaming(self) -> Path:
        return self.path / "renaming"

    def note_rename(self, old: str, new: str) -> None:
        """Note that a study is being renamed, until `forget_rename`."""
        self._renaming.mkdir(exist_ok=True)
        (self._renaming / f"{old}.{new}").touch()

    def forget_rename(self, old: str, new: str) -> None:
        """A study was renamed in this folder and in the ledger."""
        (self._renaming / f"{old}.{new}").unlink()
        with suppress(OSError):  # another study is being renamed
            self._renaming.rmdir()

    def refuse_half_renamed(self, name: str) -> None:
        """Raises UsageError if a study that has this name, or is to get it, is not renamed everywhere."""
        for old, new in self.renames():
            if (confirmed_study(name) or name) in (old, new):
                again = self.command(f"rename {old} {new}")
                raise UsageError(f"{old} is being renamed to {new}, or that was cut off; complete it with: {again}")

    def pointer(self, name: str) -> Path:
        """File with the URL of a study's ledger; missing for the default ledger."""
        return self.study(confirmed_study(name) or name) / "ledger.url"

    def ledger_of(self, name: str) -> str:
        """URL of the ledger that holds the study: the one it was created with, else the default ledger."""
        pointer = self.pointer(name)
        if not pointer.is_file():
            return self.ledger_url
        url = pointer.read_text().strip()
        file = sqlite_file(url)
        return url if file is None or file.is_absolute() else sqlite_url(self.path / file)

    def remember_ledger(self, name: str, url: str | None) -> None:
        """Record the URL of a study's ledger, readable by the owner only. For the default ledger pass None.

        An SQLite file in this folder is recorded relative to it, so that it is found after the folder was moved.
        """
        if url is not None:
            file = sqlite_file(url)
            if file is not None and file.is_relative_to(self.path) and url == sqlite_url(file):
                url = sqlite_url(file.relative_to(self.path))
            pointer = self.pointer(name)
            pointer.touch(mode=0o600)
            pointer.write_text(url)

    def checkpoints(self, name: str, root: str | None = None) -> str:
        """Folder or URI that holds one folder of checkpoints per trial of a study.

        Args:
            root: `storage.checkpoints` of the specification, perhaps relative to this folder; None for this folder.
        """
        studies = self.path / "studies"
        if root and "://" not in root:
            root = str(self.path / root)
        return f"{root or studies}/{self.study(name).relative_to(studies)}/checkpoints"

    def incumbent(self, name: str) -> Path:
        """File with the best configuration of a study so far; always current."""
        return self.study(name) / "best.yaml"

    def exports(self, name: str) -> Path:
        """Folder of a study's exported configurations and retrained models."""
        return self.study(name) / "exports"
