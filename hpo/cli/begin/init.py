"""`hpo init`: a few questions, and a commented file that can be run."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from hpo.cli.options import JsonOption
from hpo.cli.programs import documents
from hpo.errors import HpoError, UsageError

if TYPE_CHECKING:
    from hpo.spec.study import Spec

DATA = ("shapes", "cifar10", "cifar100", "folder")
DEVICES = ("gpu", "cpu")
T = TypeVar("T")


def init(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="File to write. Default: the name of the study, with .yaml.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Images: cifar10, cifar100, a folder of yours, or shapes, which are generated.",
            autocompletion=lambda: list(DATA),
            show_default="asked",
        ),
    ] = None,
    root: Annotated[
        str | None,
        typer.Option(help="Folder of the images. Missing CIFAR images are downloaded to it.", show_default="data"),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Where trials will train: gpu or cpu.",
            autocompletion=lambda: list(DEVICES),
            show_default="gpu if there is one",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model of timm.", show_default="EfficientNetV2-S on a GPU, EfficientNetV2-B0 on a CPU"),
    ] = None,
    pretrained: Annotated[
        bool | None,
        typer.Option(
            "--pretrained/--random",
            help="Begin with timm's pretrained weights, or with random weights.",
            show_default="pretrained for photographs, if timm has weights",
        ),
    ] = None,
    trials: Annotated[str | None, typer.Option(metavar="N", help="Number of trials.", show_default="by device")] = None,
    hours: Annotated[
        str | None, typer.Option(metavar="H", help="Longest duration, in hours.", show_default="no limit")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the study.", show_default="from the data")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a first study of your own: a commented YAML file that can be run.

    On a terminal, hpo init asks for what no option gives. Elsewhere, and with --json, it takes defaults; only --data
    has none.
    """
    from hpo.home import Home

    asked = sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    try:
        target, spec = _init(_Questions(asked), file, data, root, device, model, pretrained, trials, hours, name, force)
    except typer.Abort as error:
        print()  # the prompt has no end of its line
        raise HpoError("the input ended before the last answer; nothing was written") from error
    except SystemExit:
        if asked:
            print()
        raise
    if as_json:
        step = Home.at().command(f"run {shlex.quote(str(target))}")
        documents.show("file", {"file": str(target.absolute()), "next": step})
    else:
        _say_next(target, spec)


class _Questions:
    """Each answer is an option, else what a person types, else the default."""

    def __init__(self, asked: bool) -> None:
        self._asked = asked

    def begin(self) -> None:
        if self._asked:
            print("Enter takes the answer in brackets. Ctrl-C ends this without a file.")

    def answer(
        self,
        option: str,
        given: str | None,
        question: str,
        default: str,
        parse: Callable[[str], T],
        *,
        required: bool = False,
    ) -> T:
        """
        Args:
            option: the option on the command line.
            given: its value; None if it was left out.
            default: what Enter takes.
            parse: raises UsageError with a rule and a remedy.
            required: where nobody can be asked, the default is not taken.

        Raises:
            UsageError: the option is wrong, or missing where nobody can be asked.
        """
        if given is not None:
            try:
                return parse(given)
            except UsageError as error:
                raise UsageError(f"{option} {given}: {error}") from error
        if not self._asked:
            if required:
                raise UsageError(f"{option} is missing, and without a terminal nobody can be asked: {question}")
            return parse(default)
        while True:
            text = typer.prompt(question, default=default).strip()
            try:
                return parse(text)
            except UsageError as error:
                print(f"  {error}")


def _init(
    ask: _Questions,
    file: Path | None,
    data: str | None,
    root: str | None,
    device: str | None,
    model: str | None,
    pretrained: bool | None,
    trials: str | None,
    hours: str | None,
    name: str | None,
    force: bool,
) -> tuple[Path, Spec]:
    from hpo.cli.begin.first_study import Answers, first_study, template
    from hpo.files import write_new

    ask.begin()
    images = ask.answer("--data", data, f"Images: {', '.join(DATA)}", "cifar10", _one_of(DATA), required=True)
    if images == "shapes":
        if root is not None:
            raise UsageError("--root is for CIFAR; the images of --data shapes are generated, so leave one of them out")
        folder = None
    elif images == "folder":
        folder = ask.answer("--root", root, "Folder of your images", "images", _image_folder, required=True)
    else:
        folder = ask.answer("--root", root, "Folder of the images, which are downloaded if missing", "data", _text)
    place = ask.answer("--device", device, f"Train on: {', '.join(DEVICES)}", _default_device(), _one_of(DEVICES))
    usual = template(images, place)
    network = ask.answer("--model", model, "Model of timm", usual["model"]["name"], _model)
    count = ask.answer("--trials", trials, "Number of trials", str(usual["budget"]["trials"]), _count)
    limit = ask.answer("--hours", hours, "Longest duration in hours, 0 for no limit", "0", _hours)
    own = _name_of(file) if file else f"my_{images}"
    study = ask.answer("--name", name, "Name of the study", own, _name)
    target = file or ask.answer("FILE", None, "File to write", f"{study}.yaml", _new_file(force))
    _new_file(force)(str(target))
    answers = Answers(
        data=images,
        device=place,
        model=network,
        trials=count,
        name=study,
        hours=limit,
        root=folder,
        pretrained=pretrained,
    )
    text, spec, remarks = first_study(answers, target)
    write_new(target, text, force=force)
    if place == "gpu" and _default_device() == "cpu":
        remarks.append("this machine shows no NVIDIA GPU; trials would train on its CPU, which may take weeks")
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    return target, spec


def _say_next(file: Path, spec: Spec) -> None:
    from hpo.home import Home

    home, quoted = Home.at(), shlex.quote(str(file))
    print(
        f"Written: {file}\n{spec.task}; {spec.budget.trials} trials, {len(spec.space)} searched parameters\n\nNext:\n"
        f"  {home.command(f'run {quoted} --dry-run')}  # plan, cost and time; nothing is written\n"
        f"  {home.command(f'run {quoted}')}\n"
        f"  {home.command(f'status {spec.study} --watch')}  # in a second terminal"
    )


def _default_device() -> str:
    from hpo.driver.gpus.nvml import gpu_names

    return "gpu" if gpu_names() else "cpu"


# ------------------------------------------------------------------------------------------------ answers


def _one_of(words: tuple[str, ...]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        from hpo.text import close

        if text.lower() not in words:
            hint = close(text, words)
            raise UsageError(f"choose one of {', '.join(words)}" + (f"; {hint}" if hint else ""))
        return text.lower()

    return parse


def _text(text: str) -> str:
    if not text:
        raise UsageError("give a folder")
    return text


def _image_folder(text: str) -> str:
    from trainers.api import DataConfig, DataError
    from trainers.data.folder import Folder

    try:
        Folder(DataConfig(name="folder", root=_text(text))).verify()
    except DataError as error:
        raise UsageError(str(error).removeprefix("data.root: ")) from error
    return text


def _model(text: str) -> str:
    from trainers.network import catalogue

    if not catalogue.known_model(text):
        raise UsageError(catalogue.unknown(text))
    return text


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) < 1:
        raise UsageError("give a whole number from 1 to 999999")
    return int(text)


def _hours(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError("give a number of hours, for example 2 or 0.5; 0 is no limit")
    return value or None


def _name(text: str) -> str:
    from hpo.home import NAME

    if not NAME.fullmatch(text):
        raise UsageError("use 1 to 64 letters, digits, '-' and '_', and begin with a letter or digit")
    return text


def _name_of(file: Path) -> str:
    from hpo.cli.begin.spaces import study_name

    return study_name(file)


def _new_file(force: bool) -> Callable[[str], Path]:
    def parse(text: str) -> Path:
        from hpo.files import refuse_place

        path = Path(text)
        refuse_place(path, force=force)
        return path

    return parse
