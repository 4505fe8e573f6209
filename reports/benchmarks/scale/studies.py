"""A study with many ended trials, made quickly: a few are trained for real, their rows are copied in the database."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import sqlalchemy
from ruamel.yaml import YAML
from sqlalchemy import Engine, MetaData, Table

import search_spaces
from hpo.driver.conductor import Assignment, Conductor
from hpo.ledger.storage import open_storage
from hpo.ledger.writer import Ledger
from hpo.search.samplers import study_sampler
from hpo.spec.study import Spec
from trainers.api import EpochMetrics, TrialConfig

NAME = "scale"
EPOCHS = 50
TEMPLATES = 100
"""Trials that are trained; the others are copies of them."""
JITTER = 0.03
"""Relative standard deviation between the numbers of a copy and those of its template."""
ENDED = ("COMPLETE", "PRUNED", "FAIL")


def search_spec(policy: str, trials: int = 1_000_000, budget: Mapping[str, float] = MappingProxyType({})) -> Spec:
    """The shipped study of CIFAR-10 with 50 epochs, rungs in epochs, and every suggestion learned from results.

    Args:
        budget: limits beside the number of trials.
    """
    # Not by `load_spec`: its checks load torch, and the memory that is measured should be that of the study.
    text = (Path(search_spaces.__file__).parent / "cifar10.yaml").read_text(encoding="utf-8")
    shipped = Spec.model_validate(YAML(typ="safe").load(text)).model_dump()
    changes = {
        "study": NAME,
        "train": shipped["train"] | {"epochs": EPOCHS},
        "asha": {"reduction_factor": 4, "resource": "epochs"},
        "search": {"policy": policy, "random_share": 0.0},
        "tracking": {"enabled": False},
        "budget": {"trials": trials, **budget},
    }
    return Spec.model_validate(shipped | changes)


def accuracy(config: TrialConfig, seed: int, epoch: int) -> float:
    """A synthetic learning curve: its height depends on the learning rate and the dropout."""
    rate = math.log10(config.train.lr) + 3.0
    dropout = config.train.progressive.dropout.end or 0.0
    noise = np.random.default_rng((seed, epoch)).normal()
    return float((0.95 - 0.1 * rate**2 - 0.3 * (dropout - 0.3) ** 2) * (1 - math.exp(-epoch / 6)) + 0.002 * noise)


def report(assignment: Assignment, epoch: int) -> EpochMetrics:
    """What the worker of a trial reports after an epoch of 20 s."""
    value = accuracy(assignment.config, assignment.seed, epoch)
    return EpochMetrics(epoch=epoch, val_accuracy=value, seconds=20.0, train_loss=1.0 - value)


def create(url: str, running: int, ended: int = TEMPLATES) -> None:
    """Train a study in this process until `ended` trials have ended, beside `running` that wait to be resumed."""
    spec = search_spec("random")
    storage = open_storage(url)
    conductor = Conductor(Ledger.create(storage, spec, {}, study_sampler(spec)))
    left = 0
    for number in itertools.count():
        if number - left >= ended and left >= running:
            break
        assignment = conductor.next_trial()
        assert assignment is not None, conductor.fatal
        wanted = EPOCHS if left >= running else int(number % 4 == 0)
        left += all(conductor.on_epoch(assignment.number, report(assignment, epoch)) for epoch in _epochs(wanted))
    conductor.close()
    storage.remove_session()
    storage.engine.dispose()  # SQLite puts its write-ahead log into the file, which may be copied then


def _epochs(last: int) -> range:
    return range(1, last + 1)


def multiply(url: str, ended: int, seed: int = 0) -> None:
    """Copy ended trials, row by row and with other numbers, until the study has `ended` of them."""
    engine = sqlalchemy.create_engine(url)
    tables = _tables(engine)
    rng = np.random.default_rng(seed)
    trials = tables["trials"]
    with engine.begin() as connection:
        rows = [dict(row) for row in connection.execute(sqlalchemy.select(trials)).mappings()]
        templates = [row for row in rows if row["state"] in ENDED]
        copies = [
            (template["trial_id"], template | {"trial_id": place, "number": number})
            for template, place, number in zip(
                itertools.islice(itertools.cycle(templates), max(0, ended - len(templates))),
                itertools.count(max(row["trial_id"] for row in rows) + 1),
                itertools.count(len(rows)),
                strict=False,
            )
        ]
        _insert(connection, trials, [copy for _, copy in copies])
        for table in tables.values():
            if "trial_id" in table.columns and table is not trials:
                _insert(connection, table, list(_copied(connection, table, copies, rng)))
    engine.dispose()


def _copied(
    connection: sqlalchemy.Connection,
    table: Table,
    copies: list[tuple[int, dict[str, Any]]],
    rng: np.random.Generator,
) -> Iterator[dict[str, Any]]:
    """The rows of a table that belong to copies of trials."""
    (key,) = table.primary_key.columns.keys()
    by_trial: dict[int, list[dict[str, Any]]] = {}
    greatest = 0
    for row in connection.execute(sqlalchemy.select(table)).mappings():
        by_trial.setdefault(row["trial_id"], []).append(dict(row))
        greatest = max(greatest, row[key])
    places = itertools.count(greatest + 1)
    for template, copy in copies:
        for old in by_trial.get(template, ()):
            yield old | {key: next(places), "trial_id": copy["trial_id"]} | _jittered(old, rng)


def _jittered(row: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Another value of a real parameter, near the one of the template; nothing for other rows."""
    if "distribution_json" not in row:
        return {}
    distribution = json.loads(row["distribution_json"])
    if distribution["name"] != "FloatDistribution":
        return {}
    value = row["param_value"] * (1 + JITTER * rng.normal())
    limits = distribution["attributes"]
    return {"param_value": min(max(value, limits["low"]), limits["high"])}


def transfer(source: str, target: str) -> None:
    """Fill a new database of a server with the study in an SQLite file."""
    open_storage(target)  # creates the tables
    one, other = sqlalchemy.create_engine(source), sqlalchemy.create_engine(target)
    there = _tables(other)
    with one.connect() as reading, other.begin() as writing:
        for table in _sorted_tables(one):
            if table.name in ("alembic_version", "version_info"):
                continue
            rows = [dict(row) for row in reading.execute(sqlalchemy.select(table)).mappings()]
            _insert(writing, there[table.name], rows)
            for key in [column.name for column in table.primary_key.columns]:
                sequence = sqlalchemy.func.pg_get_serial_sequence(table.name, key)
                greatest = sqlalchemy.func.coalesce(sqlalchemy.func.max(there[table.name].c[key]), 1)
                writing.execute(sqlalchemy.select(sqlalchemy.func.setval(sequence, greatest)))
    one.dispose()
    other.dispose()


def _insert(connection: sqlalchemy.Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(sqlalchemy.insert(table), rows)


def _tables(engine: Engine) -> dict[str, Table]:
    return {table.name: table for table in _sorted_tables(engine)}


def _sorted_tables(engine: Engine) -> list[Table]:
    """The tables of a database, those that others refer to first."""
    metadata = MetaData()
    metadata.reflect(engine)
    return metadata.sorted_tables
