"""Specifications that somebody wrote to do harm: each is refused with exit code 2, none ends in a traceback."""

from __future__ import annotations

import contextlib
import io
import re
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hpo.cli import main
from hpo.home import NAME
from hpo.spec.study import Spec
from hpo.spec.yaml_writer import dump
from hpo.validation.loader import load_spec, load_training
from hpo.validation.problems import SpecificationError
from hpo.validation.settings import all_paths, known_keys

FREE = ("extra", "space", "enqueue")
SETTINGS = sorted(path for path in all_paths(Spec) if not path.startswith(FREE))
SECTIONS = sorted({path.rpartition(".")[0] for path in SETTINGS})

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
SCALARS = st.one_of(
    TEXT,
    st.booleans(),
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
NESTED = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))

EXPLOITS = st.sampled_from(
    [
        "!!python/object/apply:os.system ['touch /tmp/owned']",
        "!!python/name:os.system",
        "!!python/object/new:type {args: [x, [], {}]}",
        "!<tag:yaml.org,2002:python/module:os>",
        "!!binary aGVsbG8=",
        "!!set {a, b}",
        "!!timestamp 2001-01-01",
        "&a [*a, *a]",
        "&a {b: *a}",
        "*missing",
        "{<<: *missing}",
        "[" * 3000,
        "{a: " * 3000,
        "? " * 500,
        "99999999999999999999999999",
        "1" * 5000,
        "0x" + "f" * 400,
        "1e999",
        "-.inf",
        ".nan",
        '"\\ud800"',
        '"\\UFFFFFFFF"',
        '"\\x"',
        "'open",
        "|\n\tx",
        "\x00",
        "\x1b]0;title\x07",
        "%TAG ! tag:x:",
        "--- \n--- ",
        "@x",
        "`id`",
    ]
)

BASE = """\
study: small
trainer: tests.synthetic:train
space:
  train.lr: {type: float, low: 1e-4, high: 1e-2, log: true}
"""


def base() -> dict[str, Any]:
    return {
        "study": "small",
        "trainer": "tests.synthetic:train",
        "space": {"train.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True}},
    }


def put(data: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".") if path else [""]
    for key in parents:
        if not isinstance(data.setdefault(key, {}), dict):
            data[key] = {}  # an earlier change of this specification put something else there
        data = data[key]
    data[last] = value


@st.composite
def wrong_values(draw: st.DrawFn) -> str:
    """A mapping or a list of lists, which no single setting takes, in any number of places."""
    data = base()
    for path in draw(st.lists(st.sampled_from(SETTINGS), min_size=1, max_size=5, unique=True)):
        put(
            data,
            path,
            draw(st.one_of(NESTED.map(lambda value: [[value]]), NESTED.map(lambda value: {"\u202e": value}))),
        )
    return dump(data)


@st.composite
def unknown_keys(draw: st.DrawFn) -> str:
    data, section = base(), draw(st.sampled_from(SECTIONS))
    parts = tuple(section.split(".")) if section else ()
    key = draw(TEXT.filter(lambda text: text not in known_keys(Spec, parts)))
    holder = data
    for part in parts:
        holder = holder.setdefault(part, {})
    holder[key] = draw(NESTED)
    return dump(data)


@st.composite
def names_that_leave(draw: st.DrawFn) -> str:
    escapes = st.sampled_from(
        ["..", ".", "a/..", "/etc/x", "a\\b", "a b", "~", "a\x00", "-rf", "CON ", "", "é", "x" * 65]
    )
    study = draw(escapes | TEXT.filter(lambda text: not NAME.fullmatch(text)))
    return dump({**base(), "study": study})


@st.composite
def impossible_spaces(draw: st.DrawFn) -> str:
    number = st.floats(-1e300, 1e300, allow_nan=False)
    low = draw(number)
    wrong = st.one_of(
        st.just({"type": "float", "low": low, "high": low - max(1.0, abs(low))}),
        number.filter(lambda high: high < 0).map(lambda high: {"type": "float", "low": high, "high": 1, "log": True}),
        st.just({"type": "categorical", "choices": []}),
        SCALARS.map(lambda one: {"type": "categorical", "choices": [one, one]}),
        NESTED.filter(lambda one: not isinstance(one, dict) or "type" not in one),
        TEXT.filter(lambda kind: kind not in ("float", "int", "categorical")).map(
            lambda kind: {"type": kind, "low": 0, "high": 1}
        ),
    )
    name = draw(st.sampled_from(["train.momentum", "train.lr", "extra.x", "extra.__class__", "train.__class__"]) | TEXT)
    data = base()
    data["space"][name] = draw(wrong)
    return dump(data)


@st.composite
def exploits(draw: st.DrawFn) -> str:
    path = draw(st.sampled_from(["seed", "description", "x", "space", "enqueue", "train", "extra"]))
    return f"{BASE}{path}: {draw(EXPLOITS)}\n" if path != "space" else f"study: a\nspace: {draw(EXPLOITS)}\n"


@st.composite
def junk(draw: st.DrawFn) -> str:
    alphabet = st.sampled_from("[]{}:,-?!&*#|>'\"%@` \n\tab01.~\u2028\ufeff")
    return draw(TEXT | st.text(alphabet, max_size=60) | alphabet.map(lambda one: one * 2000))


HOSTILE = st.one_of(wrong_values(), unknown_keys(), names_that_leave(), impossible_spaces(), exploits(), junk())


def validate(content: bytes) -> tuple[int, str]:
    """Exit code and standard error of `hpo validate FILE`."""
    before = sys.argv, sys.unraisablehook, threading.excepthook
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()) as printed:
        path = Path(folder, "study.yaml")
        path.write_bytes(content)
        sys.argv = ["hpo", "validate", str(path)]
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0), printed.getvalue()
        finally:
            sys.argv, sys.unraisablehook, threading.excepthook = before
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return 0, printed.getvalue()


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(text=HOSTILE)
@example(text="[" * 100_000)
@example(text="study: &a [*a]")
@example(text="\ufeff")
def test_hostile_specifications_exit_with_2(text: str) -> None:
    code, printed = validate(text.encode("utf-8", "surrogatepass"))
    assert code == 2, (text, printed)
    assert "Traceback" not in printed
    assert "study.yaml" in printed
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", printed)  # nothing steers the terminal


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200))
def test_random_bytes_are_specification_errors(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "junk.yaml")
        path.write_bytes(content)
        with pytest.raises(SpecificationError):
            load_spec(str(path))
        # An empty mapping is a training with every default; anything else must be refused alike.
        with contextlib.suppress(SpecificationError):
            load_training(str(path))


@settings(max_examples=60, deadline=None)
@given(
    overrides=st.lists(TEXT | st.tuples(st.sampled_from(SETTINGS) | TEXT, NESTED).map(lambda kv: f"{kv[0]}={kv[1]}"))
)
def test_hostile_overrides_are_specification_errors(overrides: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "study.yaml")
        path.write_text(BASE, encoding="utf-8")
        with contextlib.suppress(SpecificationError):  # some are harmless, e.g. seed=3
            spec = load_spec(str(path), overrides)
            assert NAME.fullmatch(spec.study)
