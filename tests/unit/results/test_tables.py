"""The tables of trials and epochs: their columns, and what becomes of every kind of value in every form."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.errors import UsageError
from hpo.home import Home
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import StudyRecord
from hpo.results.tables import frames
from hpo.results.tables.frames import frame, write_parquet
from hpo.results.tables.table import Column, Table, csv_text, json_rows
from hpo.results.tables.trials import AFTER, BEFORE, epoch_table, trial_table
from tests.conftest import synthetic_spec
from tests.support.instant_study import train
from tests.support.sample_records import SPEC, trial
from trainers.api import EpochMetrics

MIXED = Table(
    (Column("n", "int"), Column("x", "float"), Column("t", "text"), Column("at", "time"), Column("c", "choice")),
    ((1, 0.5, "=1+1", 0.25, True), (None, float("nan"), None, None, "a")),
)


@pytest.fixture
def study() -> StudyRecord:
    """Two trials that trained, one of which failed, and one that waits."""
    failed = dataclasses.replace(
        trial(1, 2), outcome=Outcome(Ending.FAILED, "no route to postgresql://me:s3cret@host/db\nTraceback")
    )
    waiting = dataclasses.replace(trial(2, 0), attempts=(), values={"train.lr": 0.01})
    return StudyRecord(SPEC.study, SPEC, {}, (trial(0, 3, ending=Ending.COMPLETE), failed, waiting))


def test_a_trial_has_its_state_value_reason_stage_and_parameters_in_one_row(study: StudyRecord) -> None:
    table = trial_table([study])
    names = [column.name for column in table.columns]
    assert names == [*(one.name for one in BEFORE), *SPEC.space, *(one.name for one in AFTER)]
    rows = [dict(zip(names, row, strict=True)) for row in table.rows]
    assert [(row["trial"], row["state"], row["epochs"], row["stage"]) for row in rows] == [
        (0, "complete", 3, 0),
        (1, "failed", 2, 0),
        (2, "waiting", 0, None),
    ]
    assert (rows[0]["value"], rows[0]["seconds"], rows[0]["train.progressive.stages"]) == (pytest.approx(0.43), 90.0, 4)
    assert (rows[2]["value"], rows[2]["started"], rows[2]["train.progressive.stages"]) == (None, None, None)


def test_a_reason_is_one_line_without_passwords(study: StudyRecord) -> None:
    reason = [row[-2] for row in trial_table([study]).rows][1]
    assert reason.startswith("no route to postgresql://me:")
    assert "s3cret" not in reason
    assert "\n" not in reason


def test_a_minimised_objective_has_its_own_value_and_not_the_negative_score(study: StudyRecord) -> None:
    spec = SPEC.model_validate(
        SPEC.model_dump() | {"objectives": [{"metric": "val_loss", "direction": "minimize"}]},
    )
    epochs = tuple(dataclasses.replace(one, score=-0.7) for one in study.trials[0].epochs)
    one = dataclasses.replace(study.trials[0], epochs=epochs)
    minimised = dataclasses.replace(study, spec=spec, trials=(one,))
    assert trial_table([minimised]).rows[0][5] == 0.7
    assert {row[3] for row in epoch_table(minimised).rows} == {0.7}


def test_several_studies_share_one_table_that_names_them(study: StudyRecord) -> None:
    other = dataclasses.replace(study, name="other")
    table = trial_table([study, other])
    assert table.columns[0].name == "study"
    assert [row[0] for row in table.rows] == [study.name] * 3 + ["other"] * 3


def test_an_epoch_has_its_metrics_and_those_of_an_own_trainer(study: StudyRecord) -> None:
    first = study.trials[0].epochs[0]
    own = dataclasses.replace(first, metrics=EpochMetrics(epoch=1, val_accuracy=0.5, own={"f1": 0.25}))
    trials = (study.trials[0], dataclasses.replace(study.trials[1], epochs=(own,)))
    table = epoch_table(dataclasses.replace(study, trials=trials))
    names = [column.name for column in table.columns]
    rows = [dict(zip(names, row, strict=True)) for row in table.rows]
    assert [(row["trial"], row["epoch"], row["f1"]) for row in rows] == [
        (0, 1, None),
        (0, 2, None),
        (0, 3, None),
        (1, 1, 0.25),
    ]
    assert (rows[0]["image_size"], rows[0]["seconds"], rows[3]["image_size"]) == (128, 30.0, None)


def test_comma_separated_values_have_no_formula_and_times_in_utc() -> None:
    assert csv_text(MIXED) == "n,x,t,at,c\n1,0.5,'=1+1,1970-01-01T00:00:00+00:00,True\n,nan,,,a\n"
    texts = Table((Column("t", "text"), Column("x", "float")), (("@x", -0.5), ("-x", 1.0)))
    assert csv_text(texts) == "t,x\n'@x,-0.5\n'-x,1.0\n"


def test_json_has_null_for_numbers_that_it_does_not_know() -> None:
    rows = json_rows(MIXED)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert rows[1] == {"n": None, "x": None, "t": None, "at": None, "c": "a"}


def test_a_data_frame_has_a_type_for_every_kind() -> None:
    pytest.importorskip("pandas")
    data = frame(MIXED)
    assert {name: str(kind) for name, kind in data.dtypes.items()} == {
        "n": "Int64",
        "x": "float64",
        "t": "object",
        "at": "datetime64[ns, UTC]",
        "c": "object",
    }
    assert data["at"][0].isoformat() == "1970-01-01T00:00:00.250000+00:00"
    assert list(frame(Table(MIXED.columns, ())).columns) == ["n", "x", "t", "at", "c"]


def test_a_parquet_file_holds_choices_of_several_types_as_texts(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    write_parquet(MIXED, tmp_path / "x.parquet")
    assert list(pandas.read_parquet(tmp_path / "x.parquet")["c"]) == ["True", "a"]


def test_without_pyarrow_the_error_has_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install pyarrow"):
        write_parquet(MIXED, tmp_path / "x.parquet")


# ------------------------------------------------------------------------------------------ hpo trials


@pytest.fixture
def recorded(home: Home) -> Home:
    """A home folder with a finished study of eight trials."""
    train(synthetic_spec(), home, lambda config, epoch: EpochMetrics(epoch=epoch, val_accuracy=epoch / 10))
    return home


def output(home: Home, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["trials", "synthetic", *words, "--home", str(home.path)])
    assert done.exit_code == code or isinstance(done.exception, UsageError), done.output
    return str(done.exception) if code else done.stdout


def test_the_command_writes_every_trial_in_every_form(recorded: Home, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(output(recorded))))
    assert [int(row["trial"]) for row in rows] == list(range(8))
    assert output(recorded, "--csv") == output(recorded)
    objects = json.loads(output(recorded, "--json"))
    assert [(row["trial"], row["state"]) for row in objects] == [(int(row["trial"]), row["state"]) for row in rows]
    assert len(json.loads(output(recorded, "--json", "--epochs"))) == sum(row["epochs"] for row in objects)
    output(recorded, "--csv", "-o", str(tmp_path / "trials.csv"))
    assert (tmp_path / "trials.csv").read_text() == output(recorded)
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    output(recorded, "--parquet", "-o", str(tmp_path / "trials.parquet"))
    assert list(pandas.read_parquet(tmp_path / "trials.parquet")["extra.quality"]) == [
        row["extra.quality"] for row in objects
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--csv", "--json"], "exclude each other"),
        (["--parquet"], "name the file with -o FILE"),
        (["--parquet", "-o", "-"], "name the file with -o FILE"),
        (["-o", "/nowhere/trials.csv"], "cannot be written"),
    ],
)
def test_the_command_refuses_what_cannot_be_written(recorded: Home, words: list[str], says: str) -> None:
    assert says in output(recorded, *words, code=2)
