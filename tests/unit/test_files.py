"""Files that a person names: nothing is lost that was there, and what is no regular file stays what it is."""

from __future__ import annotations

import errno
import io
import os
import threading
from pathlib import Path

import pytest

from hpo.errors import UsageError
from hpo.files import refuse_place, write_atomically, write_new


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_atomically(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_pipe_or_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()), daemon=True)
    reader.start()
    write_atomically(pipe, "text")
    reader.join(10)
    assert received == ["text"]
    assert pipe.is_fifo()


@pytest.mark.parametrize("force", [False, True])
def test_a_new_file_is_written(force: bool, tmp_path: Path) -> None:
    write_new(tmp_path / "new", "text", force=force)
    assert (tmp_path / "new").read_text() == "text"


def test_a_file_that_exists_is_replaced_by_force_only(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(UsageError, match=r"exists already; .* --force"):
        write_new(file, "text")
    assert file.read_text() == "mine"
    write_new(file, "text", force=True)
    assert file.read_text() == "text"


def test_a_link_to_nowhere_counts_as_a_file_that_exists(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="exists already"):
        write_new(link, "text")


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("place", "said"),
    [
        (".", "is a folder; name a file"),
        ("missing/file", "there is no folder"),
        ("file/below", "there is no folder"),
        ("a" * 300, "File name too long"),
    ],
)
def test_a_place_that_takes_no_file_is_named(place: str, said: str, force: bool, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=said):
        write_new(tmp_path / place, "text", force=force)


def test_a_full_disk_leaves_no_part_of_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def opened(path: Path, mode: str, **settings: object) -> io.StringIO:
        path.touch()
        return Full()

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(UsageError, match="No space left"):
        write_new(tmp_path / "new", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_not_writable_is_found_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # root may write anywhere
    with pytest.raises(UsageError, match="not writable"):
        refuse_place(tmp_path / "new")
