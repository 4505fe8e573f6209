"""Values as text for people."""

from __future__ import annotations

import pytest

from hpo.text import duration, first_line, short_names


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one", "one"),
        ("one\ntwo", "one"),
        ("\n  one \r\ntwo", "one"),
        ("", ""),
        ("\n\n", ""),
        (ValueError("a crash\nwith details"), "a crash"),
        (ValueError(), ""),
    ],
)
def test_the_first_line_of_a_text_or_an_error_skips_blank_lines(text: object, line: str) -> None:
    assert first_line(text) == line


def test_the_first_line_of_a_text_without_line_ends_is_short() -> None:
    """A trainer may raise `ValueError(tensor.tolist())`, and a terminal shows the first lines of all failures."""
    line = first_line("first " + "7, " * 30_000 + "last\nsecond")
    assert len(line) < 600
    assert line.startswith("first 7,")
    assert line.endswith("7, last")


def test_a_duration_counts_hours_beyond_a_day() -> None:
    assert [duration(seconds) for seconds in (0.4, 59.6, 450, 93_600)] == ["0:00:00", "0:01:00", "0:07:30", "26:00:00"]


def test_short_names_stay_different_and_keep_the_part_before_start_and_end() -> None:
    paths = ["train.lr", "train.progressive.size.end", "train.progressive.dropout.end", "extra.train"]
    assert short_names(paths) == dict(zip(paths, ["lr", "size.end", "dropout.end", "train"], strict=True))
    assert short_names(iter(["a.lr", "b.lr"])) == {"a.lr": "a.lr", "b.lr": "b.lr"}
