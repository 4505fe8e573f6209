"""A specification and a training survive YAML and JSON, whatever valid values they hold."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.spec.study import Spec
from hpo.spec.yaml_writer import dump
from hpo.validation.loader import parse_spec, parse_training
from hpo.validation.yaml_reader import read

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\r\t"), max_size=40)
TRICKY = st.sampled_from(
    [
        "no",
        "1e-3",
        "0x1f",
        "1_000",
        "null",
        "~",
        "",
        " ",
        ": x",
        "- a",
        "# c",
        "a\n b\n",
        "\u2028",
        "<<",
        "=",
        "é",
    ]
)
TEXT = WORDS | TRICKY
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INTS = st.integers(-(2**63), 2**63 - 1)
SCALARS = st.one_of(TEXT, st.booleans(), INTS, FLOATS)
KEYS = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)


def section(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keys)


DATA = section(
    name=st.sampled_from(["shapes", "cifar10", "cifar100"]),
    root=TEXT,
    validation_fraction=st.floats(0.01, 0.99),
    train_limit=st.none() | st.integers(1, 10**6),
)
MODEL = section(pretrained=st.booleans(), drop_path=st.floats(0, 0.9))
TRAIN = section(
    epochs=st.integers(16, 500),
    batch_size=st.just("auto") | st.integers(1, 4096),
    weight_decay=st.floats(0, 1e3),
    optimizer=st.sampled_from(["adamw", "sgd", "rmsprop", "lamb", "muon"]),
    eval_size=st.none() | st.integers(16, 1024),
    augment=section(cutout=st.floats(0, 0.99), flip=st.booleans()),
    progressive=st.one_of(
        section(stages=st.integers(1, 16), randaugment=section(start=st.floats(0, 30))),
        st.lists(st.integers(16, 1024), min_size=1, max_size=16).map(
            lambda sizes: {"stages": len(sizes), "sizes": sorted(sizes)}
        ),
    ),
)
SPACE = st.fixed_dictionaries(
    {"train.lr": st.just({"type": "float", "low": 1e-5, "high": 0.1, "log": True})},
    optional={
        "train.momentum": st.just(
            {"type": "float", "low": 0.0, "high": 0.9, "step": 0.1, "when": {"train.lr": {"gt": 1e-3, "ne": 0.05}}}
        ),
        "train.freeze_blocks": st.integers(1, 6).map(lambda high: {"type": "int", "low": 0, "high": high}),
        "extra.kind": st.lists(
            SCALARS, min_size=1, max_size=4, unique_by=lambda choice: (choice, type(choice) is bool)
        ).map(lambda choices: {"type": "categorical", "choices": choices}),
        "train.clip_grad": st.just(
            {"type": "categorical", "choices": [0.0, 1], "when": {"train.lr": {"in": [1e-5, 0.1]}}}
        ),
    },
)
SPACE = SPACE.map(lambda space: {"train.lr": space["train.lr"], **space})  # conditions only look back
STUDIES = st.fixed_dictionaries(
    {"study": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True), "space": SPACE},
    optional={
        "description": TEXT,
        "data": DATA,
        "model": MODEL,
        "train": TRAIN,
        "extra": st.dictionaries(KEYS.filter(lambda key: key != "kind"), SCALARS, max_size=3),
        "baseline": section(label=st.none() | st.from_regex(r"[^\s\x00-\x1f\x7f-\x9f][ -~é]{0,59}", fullmatch=True)),
        "search": section(policy=st.sampled_from(["random", "tpe", "gp"]), random_share=st.floats(0, 1)),
        "asha": section(
            enabled=st.booleans(),
            reduction_factor=st.floats(1.01, 16),
            grace_period=st.integers(1, 16),
            resource=st.sampled_from(["epochs", "compute"]),
        ),
        "resources": section(cpus=st.sampled_from([0.25, 1]), gpus=st.sampled_from(["auto", 0])),
        "concurrency": st.just("auto") | st.integers(1, 64),
        "retries": st.integers(0, 9),
        "seed": st.integers(0, 2**63 - 1),
        "budget": section(trials=st.integers(1, 10**6), hours=st.none() | st.floats(1e-3, 1e3)),
        "ray": section(address=TEXT),
        "storage": section(ledger=st.just("postgresql+psycopg://me:p%40ss@host:5432/db"), checkpoints=TEXT),
        "tracking": section(uri=TEXT, enabled=st.booleans(), experiment=TEXT),
    },
)


@settings(max_examples=60, deadline=None)
@given(data=STUDIES)
def test_specification_survives_yaml_and_json(data: dict[str, Any]) -> None:
    data = {**data, "trainer": "tests.synthetic:train"}
    spec = parse_spec(dump(data), "first")
    assert spec == Spec.model_validate(spec.model_dump())
    assert parse_spec(spec.to_yaml(), "again") == spec
    assert Spec.from_json(spec.to_json()) == spec
    assert spec.description == data.get("description", "")
    assert spec.seed == data.get("seed", 0)
    assert spec.base().train.lr == 1e-5


@settings(max_examples=40, deadline=None)
@given(data=st.fixed_dictionaries({}, optional={"data": DATA, "train": TRAIN, "extra": st.dictionaries(KEYS, SCALARS)}))
def test_training_survives_yaml(data: dict[str, Any]) -> None:
    data["provenance"] = {"trainer": "tests.synthetic:train"}
    training = parse_training(dump(data), "first")
    assert parse_training(training.to_yaml(), "again") == training


@settings(max_examples=80, deadline=None)
@given(
    data=st.dictionaries(
        TEXT,
        st.recursive(SCALARS | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=9),
    )
)
def test_plain_data_survives_yaml(data: dict[str, Any]) -> None:
    document = read(dump(data))
    assert document.problems == []
    assert document.data == data
    assert repr(document.data) == repr(data)  # 1, 1.0 and true are equal to Python, and must not be swapped
