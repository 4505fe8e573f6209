"""Passwords are masked wherever they may stand, also if nobody encoded their special characters."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.driver.conductor import Conductor
from hpo.redact import KEPT, LONGEST, as_reason, redact, shortened
from tests.conftest import synthetic_spec
from tests.support.in_process_driver import create


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://me:pw@host/db", "postgresql://me:***@host/db"),
        ("postgresql+psycopg://me:p@ss@host:5432/db?x=1", "postgresql+psycopg://me:***@host:5432/db?x=1"),
        ("postgresql://me@tenant:a/b?c#d:e@host/db", "postgresql://me@tenant:***@host/db"),
        ("mysql://:pw@host", "mysql://:***@host"),
        ("http://me:two words@host:5000 is down", "http://me:***@host:5000 is down"),
        ("from http://a:x1@h1 to http://b:x2@h2", "from http://a:***@h1 to http://b:***@h2"),
        ("s3://key:sec/ret@bucket/path", "s3://key:***@bucket/path"),
        ("postgresql://host/db?password=a@b&sslmode=on", "postgresql://host/db?password=***&sslmode=on"),
        ("https://host/x?access_token=abc", "https://host/x?access_token=***"),
        ("host=h user=me password=abc dbname=d", "host=h user=me password=*** dbname=d"),
        ("AWS_SECRET_ACCESS_KEY=abc WANDB_API_KEY=def", "AWS_SECRET_ACCESS_KEY=*** WANDB_API_KEY=***"),
        ("{'password': 'a b', \"HF_TOKEN\":\"c'd\"}", "{'password': '***', \"HF_TOKEN\":\"***\"}"),
        ("Authorization: Bearer abcdefghijkl refused", "Authorization: Bearer *** refused"),
    ],
)
def test_passwords_are_masked(text: str, masked: str) -> None:
    assert redact(text) == masked
    assert redact(masked) == masked


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/#/experiments/1, see it or write to me@example.org",
        "sqlite:////home/me/runs/optuna.db",
        "postgresql://me@host/db",
        "train.lr=0.1 at 12:30 by me@host",
        "max_tokens=128, key=5, KeyError: 'token', {'pad_token': 0}, Basic settings",
    ],
)
def test_text_that_is_not_a_password_stays(text: str) -> None:
    assert redact(text) == text


@given(
    middle=st.text(st.sampled_from("@:/?#&%= .,'\"[]{}()\\|~*+-_ü1"), max_size=12).filter(
        lambda text: "://" not in text
    ),
    user=st.text(st.sampled_from("ab@.%-_0"), max_size=6),
)
def test_no_part_of_a_password_stays(middle: str, user: str) -> None:
    text = f"uri: postgresql+psycopg://{user}:s3cret{middle}h1dden@host:5432/db\n"
    found = redact(text)
    assert "s3cret" not in found
    assert "h1dden" not in found
    assert "host:5432/db" in found


def test_reasons_are_masked_before_they_are_recorded() -> None:
    """A trainer's exception or a lost worker's last words may name a URI; MLflow and reports show reasons."""
    import optuna

    ledger = create(optuna.storages.InMemoryStorage(), synthetic_spec(budget={"trials": 2}, retries=0))
    heard: list[str] = []
    conductor = Conductor(ledger, listener=lambda event: heard.append(event.text))
    for _ in range(2):
        conductor.next_trial()
    said = "cannot reach s3://key:s3cret@h1dden@bucket"
    conductor.on_warning(0, said)
    conductor.on_failure(0, said)
    conductor.on_lost(1, said)
    for trial in conductor.ledger.trials:
        assert trial.outcome is not None
        assert "s3://key:***@bucket" in trial.outcome.reason
    assert "s3cret" not in repr(conductor.ledger.trials) + repr(heard)
    conductor.on_broken(said)
    assert "s3cret" not in str(conductor.fatal)


PIECES = [
    "ab",
    "a://b:",
    "a://b:@",
    "x ",
    "x @",
    "a://b: ",
    "password ",
    "pwd",
    "?a-",
    "&",
    "@",
    "://",
    "a:// ",
    "a.+-",
    "\n",
    "=",
]


def seconds(work: Callable[[], object]) -> float:
    """Processor time of the quickest of five runs."""
    times = []
    for _ in range(5):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


@settings(max_examples=30, deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES), min_size=1, max_size=3))
def test_masking_takes_time_in_proportion_to_the_text(pieces: list[str]) -> None:
    """Eight times the text takes about eight times as long; a quadratic expression would take 64 times as long."""
    short, long = (("".join(pieces) * count)[:count] for count in (LONGEST // 8, LONGEST))
    assert seconds(lambda: redact(long)) < 30 * seconds(lambda: redact(short)) + 0.002


def test_a_reason_has_no_control_characters_and_no_half_characters() -> None:
    """A terminal, MLflow's database, PostgreSQL and a report take it."""
    assert as_reason("red \x1b[31m, nul \0, half \udcff,\nbell \a") == (
        r"red \x1b[31m, nul \x00, half \udcff," + "\n" + r"bell \x07"
    )
    assert as_reason("Größe 5 µm – 目") == "Größe 5 µm – 目"


def test_a_long_text_keeps_its_head_and_its_end() -> None:
    text = "first " + "middle " * 50_000 + "last"
    kept = as_reason(text)
    assert kept.startswith("first middle")
    assert kept.endswith("middle last")
    assert "characters left out" in kept
    assert len(kept) <= KEPT + 60
    assert as_reason("short") == "short"


@pytest.mark.parametrize("blank", [" ", "\n", "/"])
@pytest.mark.parametrize("before", range(2_980, 3_010))
def test_no_part_of_a_password_stays_at_a_cut(before: int, blank: str) -> None:
    uri = "postgresql://me:s3cret-h1dden@host/db"
    for text in (
        "x" * before + blank + uri + blank + "y" * 4_000,
        "x" * 4_000 + blank + uri + blank + "y" * (KEPT - before),
    ):
        kept = shortened(text, KEPT)
        assert "s3cret" not in redact(kept)
        assert "h1dden" not in redact(kept)


def test_a_long_document_stays_whole() -> None:
    """Specifications are masked too, and a person copies them from a report."""
    text = "".join(f"- {{train.lr: {number}}}\n" for number in range(10_000))
    assert len(text) > LONGEST
    assert redact(text) == text
