"""What `import hpo` offers: names, overrides, loaded studies, and what a notebook shows."""

from __future__ import annotations

import math
import sys
import types
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy
import pytest

import hpo
from hpo.api.messages import Begun, Done, Line
from hpo.api.overrides import as_overrides, as_yaml
from hpo.api.progress import Lines, Picture, Silence, suitable
from hpo.api.sender import Sender
from hpo.driver.events import Event
from hpo.home import Home
from hpo.ledger.storage import open_storage
from hpo.spec.study import Spec
from hpo.validation.loader import parse_spec
from hpo.validation.settings import known_keys
from tests import synthetic
from tests.conftest import synthetic_spec
from tests.support import statements
from tests.support.instant_study import train
from trainers.api import EpochMetrics

# ------------------------------------------------------------------------------------------ names


def test_every_name_of_the_interface_is_there_and_documented() -> None:
    assert set(hpo.__all__) <= set(dir(hpo))
    for name in hpo.__all__:
        assert getattr(hpo, name).__doc__, name
    assert issubclass(hpo.SpecificationError, hpo.UsageError)
    with pytest.raises(AttributeError, match="has no attribute 'runn'"):
        getattr(hpo, "runn")  # noqa: B009 - a typing mistake


def test_no_setting_has_the_name_of_an_argument_of_run() -> None:
    arguments = set(hpo.run.__code__.co_varnames[: hpo.run.__code__.co_argcount + hpo.run.__code__.co_kwonlyargcount])
    assert arguments == {"spec", "home", "resume", "progress", "verbose"}
    assert arguments & set(known_keys(Spec, ())) == set()


# ------------------------------------------------------------------------------------------ overrides

TEXT = """
study: x
train: {epochs: 4}
budget: {trials: 5, hours: 2}
space:
  train.lr: {type: float, low: 1e-4, high: 1e-1, log: true}
  train.weight_decay: {type: float, low: 1e-6, high: 1e-2, log: true}
"""


def changed(**settings: Any) -> Spec:
    return parse_spec(TEXT, "x", as_overrides(settings))


def test_a_dotted_key_and_a_dict_of_a_section_are_the_same() -> None:
    nested, dotted = changed(budget={"trials": 20}), changed(**{"budget.trials": 20})
    assert nested == dotted
    assert (nested.budget.trials, nested.budget.hours) == (20, 2)
    assert changed(train={"progressive": {"stages": 1}}) == changed(**{"train.progressive.stages": 1})


def test_a_parameter_is_replaced_as_a_whole_and_none_removes_it() -> None:
    one = {"type": "float", "low": 0.01, "high": 0.02}
    spec = changed(space={"train.lr": one, "train.weight_decay": None})
    assert list(spec.space) == ["train.lr"]
    assert spec == changed(**{"space.train.lr": one, "space.train.weight_decay": None})
    assert getattr(spec.space["train.lr"], "log") is False  # noqa: B009 - the earlier one had it


def test_values_of_python_and_of_numpy_keep_their_types() -> None:
    assert as_overrides({"a": True, "b": None, "c": "1e-3", "d": numpy.float64(0.5), "e": numpy.int64(3)}) == (
        "a=true",
        "b=null",
        'c="1e-3"',
        "d=0.5",
        "e=3",
    )
    assert as_yaml({"paths": (Path("/a"), "ü😀"), "n": numpy.arange(2)}, "x") == '{"paths": ["/a", "ü😀"], "n": [0, 1]}'


@pytest.mark.parametrize("value", [object(), {1, 2}, math.nan, math.inf, b"x"])
def test_a_value_that_yaml_cannot_hold_is_refused_by_name(value: object) -> None:
    with pytest.raises(hpo.UsageError, match=r"^train\.lr: "):
        as_overrides({"train": {"lr": value}})


def test_a_trainer_may_be_a_function_that_other_processes_can_import() -> None:
    assert as_overrides({"trainer": synthetic.train}) == ('trainer="tests.synthetic:train"',)
    assert as_yaml({"trainer": synthetic.train}, "x") == '{"trainer": "tests.synthetic:train"}'


def test_a_trainer_of_a_notebook_is_refused_with_the_way_into_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def train() -> None: ...

    for module, name in (("__main__", "train"), (__name__, train.__qualname__)):
        monkeypatch.setattr(train, "__module__", module)
        monkeypatch.setattr(train, "__qualname__", name)
        with pytest.raises(hpo.UsageError) as refused:
            as_yaml({"trainer": train}, "the specification")
        assert "cannot be imported by the processes that train" in str(refused.value)
        assert "%%writefile my_trainer.py as the first line of its cell" in str(refused.value)
        assert str(refused.value).endswith("give trainer='my_trainer:train'")


# ------------------------------------------------------------------------------------------ studies


@pytest.fixture
def recorded(home: Home) -> Home:
    """A home folder with a finished study of eight trials."""
    train(synthetic_spec(), home, lambda config, epoch: EpochMetrics(epoch=epoch, val_accuracy=config.extra["quality"]))
    return home


def test_a_loaded_study_has_frames_the_best_trial_and_the_specification(recorded: Home) -> None:
    pytest.importorskip("pandas")
    study = hpo.load_study("synthetic", home=recorded.path)
    assert list(study.trials["trial"]) == list(range(8))
    complete = study.trials[study.trials["state"] == "complete"]
    assert study.best is not None
    assert study.best.trial == complete.loc[complete["value"].idxmax(), "trial"]
    assert study.best.params["extra.quality"] == study.best.value == complete["value"].max()
    assert len(study.epochs) == study.trials["epochs"].sum()
    assert (study.confirmed, study.spec.study, study.home) == (None, "synthetic", recorded.path)
    assert repr(study).startswith("<Study synthetic, 8 trials: ")
    assert study.trials is study.trials


def test_a_study_without_a_complete_trial_has_no_best_one(home: Home) -> None:
    train(synthetic_spec(), home, lambda config, epoch: EpochMetrics(epoch=epoch, val_accuracy=math.nan))
    study = hpo.load_study("synthetic", home=home.path)
    assert (study.best, study.confirmed) == (None, None)


def test_the_gain_of_a_minimised_objective_is_positive_where_the_value_is_smaller(home: Home) -> None:
    spec = synthetic_spec(objectives=[{"metric": "val_loss", "direction": "minimize"}], asha={"enabled": False})
    train(spec, home, lambda config, epoch: EpochMetrics(epoch=epoch, val_loss=1 - config.extra["quality"]))
    best = hpo.load_study("synthetic", home=home.path).best
    assert best is not None
    assert best.value == pytest.approx(1 - best.params["extra.quality"])
    assert best.gain == pytest.approx(best.params["extra.quality"] - 0.5)


def test_studies_come_newest_first_and_an_empty_folder_has_none(recorded: Home, tmp_path: Path) -> None:
    assert [study.name for study in hpo.studies(home=str(recorded.path))] == ["synthetic"]
    assert hpo.studies(home=tmp_path / "nothing") == []
    assert not (tmp_path / "nothing").exists()


def test_an_unknown_study_is_an_error_of_this_tool(recorded: Home) -> None:
    with pytest.raises(hpo.UsageError, match="no study named 'other'"):
        hpo.load_study("other", home=recorded.path)
    with pytest.raises(hpo.UsageError, match="format='tflite': unknown format"):
        hpo.load_study("synthetic", home=recorded.path).export(format="tflite")  # type: ignore[arg-type]


def test_an_export_is_the_file_that_the_command_writes(recorded: Home, tmp_path: Path) -> None:
    study = hpo.load_study("synthetic", home=recorded.path)
    assert study.export(tmp_path / "best.yaml") == tmp_path / "best.yaml"
    assert study.best is not None
    assert f"trial: {study.best.trial}" in (tmp_path / "best.yaml").read_text()


def test_loading_a_study_takes_as_many_statements_for_many_trials_as_for_few(
    recorded: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(recorded.ledger_url)
    monkeypatch.setattr("hpo.ledger.reader.open_storage", lambda url: storage)
    with statements.counted(storage) as few:
        hpo.load_study("synthetic", home=recorded.path)
    train(
        synthetic_spec("larger", budget={"trials": 40}),
        recorded,
        lambda config, epoch: EpochMetrics(epoch=epoch, val_accuracy=0.5),
    )
    with statements.counted(storage) as many:
        study = hpo.load_study("larger", home=recorded.path)
        assert (len(study.trials), study.best is not None) == (40, True)
        assert len(study.epochs)
    assert 0 < many["statements"] == few["statements"]


# ------------------------------------------------------------------------------------------ progress


def test_a_script_gets_lines_and_silence_if_it_asks(capsys: pytest.CaptureFixture[str]) -> None:
    assert isinstance(suitable(False), Silence)
    lines = suitable(True)
    assert isinstance(lines, Lines)
    lines.show(Line("  0:01  trial 0 started"))
    lines.show(None)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "  0:01  trial 0 started\n")


def test_a_notebook_gets_one_output_that_is_kept_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = list[str]()

    class Handle:
        def update(self, data: dict[str, str], raw: bool) -> None:
            pictures.append(data["text/plain"])

    def display(data: dict[str, str], raw: bool, display_id: bool) -> Handle:
        assert pictures == []
        pictures.append(data["text/plain"])
        return Handle()

    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    ipython.display = types.SimpleNamespace(display=display)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    picture = suitable(True)
    assert isinstance(picture, Picture)
    for number in range(30):
        picture.show(Line(f"line {number}", f"toy: {number} of 30 trials"))
    assert pictures == ["toy: 0 of 30 trials\nline 0"]
    picture.close()
    picture.close()
    assert len(pictures) == 2
    assert pictures[1].splitlines()[0] == "toy: 29 of 30 trials"
    assert pictures[1].splitlines()[1:] == [f"line {number}" for number in range(20, 30)]


def test_the_driver_sends_lines_with_a_headline_that_counts(recorded: Home) -> None:
    ours, theirs = Pipe()
    study = hpo.load_study("synthetic", home=recorded.path).record
    sender = Sender(theirs)
    sender.say("before the study")
    sender.begin(study)
    sender(Event("finished", study.trials[0]))
    sender.finish(Done("synthetic"))
    before, begun, line, *others = [ours.recv() for _ in range(3 + 1 + 1)]
    assert (before, begun) == (Line("before the study"), Begun("synthetic"))
    assert "trial 0" in line.text
    assert line.headline.startswith("synthetic: 8 of 8 trials, ")
    assert f"({study.best.label})" in line.headline
    assert others[-1] == Done("synthetic")


def test_a_caller_that_stands_still_stops_nothing() -> None:
    ours, theirs = Pipe()
    sender = Sender(theirs)
    for _ in range(5_000):  # far more than a socket holds
        sender.say("x" * 200)
    ours.close()
    sender.finish(Done("x"))


def test_an_interrupt_survives_the_way_between_processes() -> None:
    ours, theirs = Pipe()
    error = hpo.Interrupted(15)
    error.advice = "go on"
    theirs.send(error)
    received = ours.recv()
    assert (str(received), received.status, received.advice) == ("interrupted by SIGTERM", 143, "go on")
