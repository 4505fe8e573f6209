"""`hpo init` writes a file that validates whatever is answered, and asks only where somebody can answer."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.cli.begin import first_study as studies
from hpo.cli.begin.first_study import Answers, first_study
from hpo.errors import UsageError
from hpo.spec.commented import commented, meaning
from hpo.spec.study import Spec
from hpo.validation.loader import load_spec
from tests.support.image_folders import write_classes
from tests.support.terminal import Tmux

MODELS: dict[str, set[str]] = {
    "tf_efficientnetv2_b0": set(),
    "tf_efficientnetv2_s.in21k_ft_in1k": set(),
    "test_vit": {"no batch norm", "one size"},
    "test_convnext": {"no batch norm", "one size"},  # it needs more than the 24 px of the generated images
}
"""A model, and what of the shipped studies it may refuse."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answers(data: str = "cifar10", device: str = "cpu", model: str = "tf_efficientnetv2_b0", **more: object) -> Answers:
    root = None if data == "shapes" else "images"
    return Answers(**{"data": data, "device": device, "model": model, "trials": 3, "name": "a", "root": root, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("device", ["gpu", "cpu"])
@pytest.mark.parametrize("data", ["shapes", "cifar10", "cifar100"])
def test_every_choice_of_data_device_and_model_validates(data: str, device: str, model: str) -> None:
    text, spec, remarks = first_study(answers(data, device, model, hours=2.5), Path("a.yaml"))
    assert (spec.study, spec.data.name, spec.model.name) == ("a", data, model)
    assert (spec.budget.trials, spec.budget.hours) == (3, 2.5)
    assert spec.resources.device == ("auto" if device == "gpu" else "cpu"), "a file for a GPU is valid without one"
    assert spec.data.download == (data != "shapes")
    expected = {studies._TEXTS[change] for change in MODELS[model]}  # type: ignore[index]
    assert set(remarks) <= expected | {studies._TEXTS["random weights"]}
    assert max(map(len, text.splitlines()[1:])) <= 80


def test_weights_that_timm_lacks_are_left_out_unless_they_were_asked_for() -> None:
    _, spec, remarks = first_study(answers(model="resnet50t"), Path("a.yaml"))
    assert spec.model.pretrained is False
    assert studies._TEXTS["random weights"] in remarks
    with pytest.raises(UsageError, match=r"no valid study with these answers: .*timm has no pretrained weights"):
        first_study(answers(model="resnet50t", pretrained=True), Path("a.yaml"))
    _, spec, remarks = first_study(answers(pretrained=False), Path("a.yaml"))
    assert (spec.model.pretrained, remarks) == (False, [])


def test_each_setting_stands_below_its_own_docstring() -> None:
    text = commented({"study": "a", "train": {"epochs": 3}, "space": {"train.progressive.dropout.end": {"low": 0.1}}})
    schema = Spec.model_json_schema()["$defs"]["TrainConfig"]["properties"]
    lines = [line.strip() for line in text.splitlines()]
    assert lines[lines.index("epochs: 3") - 1] == f"# {schema['epochs']['description']}"
    searched = lines.index("train.progressive.dropout.end:")
    assert lines[searched - 1] == f"# {meaning('train.progressive.dropout.end')}"
    assert meaning("train.progressive.dropout.end") == "Dropout rate before the classifier. Last stage."
    assert meaning("extra.own") == ""


def test_without_a_terminal_options_and_defaults_answer(here: Path) -> None:
    done = CliRunner().invoke(app, ["init", "--data", "shapes", "--device", "cpu"])
    assert done.exit_code == 0, done.exception
    spec = load_spec("my_shapes.yaml")
    assert (spec.study, spec.budget.trials) == ("my_shapes", 12)
    steps = [line.partition("  #")[0].strip() for line in done.stdout.partition("Next:")[2].splitlines() if line]
    assert steps == [
        "hpo run my_shapes.yaml --dry-run",
        "hpo run my_shapes.yaml",
        "hpo status my_shapes --watch",
    ]


def test_a_file_names_its_study(here: Path) -> None:
    done = CliRunner().invoke(app, ["init", "mine.yaml", "--data", "shapes", "--device", "cpu", "--trials", "7"])
    assert done.exit_code == 0, done.exception
    assert (load_spec("mine.yaml").study, load_spec("mine.yaml").budget.trials) == ("mine", 7)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_a_file_for_a_folder_of_ones_own_uses_all_of_its_images(device: str, here: Path) -> None:
    write_classes(here / "my images", {"a": 2, "b": 2})
    options = ["--data", "folder", "--root", "my images", "--device", device, "--random"]
    done = CliRunner().invoke(app, ["init", "mine.yaml", *options])
    assert done.exit_code == 0, done.exception
    spec = load_spec("mine.yaml")
    assert (spec.data.name, spec.data.root, spec.data.train_limit) == ("folder", "my images", None)
    assert spec.data.cache_size == spec.train.progressive.size.end
    assert not spec.data.download


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--data is missing, and without a terminal nobody can be asked"),
        (["--data", "cifr10"], "--data cifr10: choose one of shapes, cifar10, cifar100, folder; did you mean cifar10?"),
        (["--data", "shapes", "--root", "x"], "--root is for CIFAR"),
        (["--data", "folder"], "--root is missing, and without a terminal nobody can be asked: Folder of your images"),
        (
            ["--data", "folder", "--root", "no"],
            "--root no: no does not exist; name the folder that contains the",
        ),
        (["--data", "shapes", "--device", "tpu"], "--device tpu: choose one of gpu, cpu"),
        (["--data", "shapes", "--model", "tf_efficentnetv2_b0"], "did you mean tf_efficientnetv2_b0 or"),
        (["--data", "shapes", "--trials", "0"], "--trials 0: give a whole number from 1"),
        (["--data", "shapes", "--trials", "ten"], "--trials ten: give a whole number from 1"),
        (["--data", "shapes", "--hours", "nan"], "--hours nan: give a number of hours"),
        (["--data", "shapes", "--hours", "-1"], "--hours -1: give a number of hours"),
        (["--data", "shapes", "--name", "a b"], "--name a b: use 1 to 64 letters"),
        (["there.yaml", "--data", "shapes"], "there.yaml exists already; name another file"),
        ([".", "--data", "shapes"], ". is a folder; name a file"),
        (["no/a.yaml", "--data", "shapes"], "there is no folder no"),
    ],
)
def test_a_wrong_answer_is_refused_and_nothing_is_written(options: list[str], said: str, here: Path) -> None:
    (here / "there.yaml").write_text("mine")
    done = CliRunner().invoke(app, ["init", *options])
    assert isinstance(done.exception, UsageError), done.output
    assert said in str(done.exception)
    assert done.stdout == ""
    assert [path.name for path in here.iterdir()] == ["there.yaml"]
    assert (here / "there.yaml").read_text() == "mine"


# ---------------------------------------------------------------------------------------------- terminal


@pytest.fixture
def terminal(here: Path) -> Iterator[Tmux]:
    script = 'cd "$PLACE" && exec "$PYTHON" -m hpo init'
    opened = Tmux(80, 24, ["bash", "-c", script], PLACE=str(here), PYTHON=sys.executable)
    opened.until(lambda text: "Images: shapes, cifar10, cifar100, folder [cifar10]:" in text, "the first question")
    yield opened
    opened.close()


def test_a_terminal_is_asked_until_each_answer_is_right(terminal: Tmux, here: Path) -> None:
    (here / "there.yaml").touch()
    for answer, question in [
        ("shape", "did you mean shapes?"),
        ("shapes", "Train on: gpu, cpu"),
        ("cpu", "Model of timm [test_efficientnet]:"),
        ("", "Number of trials [12]:"),
        ("none", "give a whole number"),
        ("4", "Longest duration in hours, 0 for no limit [0]:"),
        ("0.5", "Name of the study [my_shapes]:"),
        ("a b", "use 1 to 64 letters"),
        ("mine", "File to write [mine.yaml]:"),
        (".", "is a folder"),
        ("there.yaml", "there.yaml exists already"),
        ("", "status=0"),
    ]:
        terminal.keys(answer, "Enter")
        terminal.until(lambda text, question=question: question in text, question)
    spec = load_spec(str(here / "mine.yaml"))
    assert (spec.study, spec.budget.trials, spec.budget.hours) == ("mine", 4, 0.5)


@pytest.mark.parametrize(
    ("key", "said", "status"),
    [("C-c", "", 130), ("C-d", "\nerror: the input ended before", 1)],
)
def test_a_person_can_leave_a_question(terminal: Tmux, here: Path, key: str, said: str, status: int) -> None:
    terminal.keys(key)
    end = f"\nstatus={status}\necho"
    shown = terminal.until(lambda text: end in text, "the end on a line of its own; the terminal echoes as before")
    assert said in shown
    assert "Traceback" not in shown
    assert list(here.iterdir()) == []
