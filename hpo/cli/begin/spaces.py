"""The commands that show and copy what ships with the tool: `hpo spaces` and `hpo copy`."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import search_spaces
from hpo.cli import completion
from hpo.cli.options import JsonOption
from hpo.cli.programs import documents

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

STUDY, RECIPE = "study", "recipe"
COLUMNS: Mapping[str, tuple[str, ...]] = {
    STUDY: ("name", "data", "model", "hardware", "duration"),
    RECIPE: ("name", "data", "model", "hardware", "epochs"),
}
"""The columns of the two tables; a wide terminal and a pipe also get the summary."""


def spaces(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Name of a search space or recipe. Its file is printed instead of the list.",
            autocompletion=completion.shipped,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the search spaces and recipes that ship with hpo, or print one.

    A search space is a study for hpo run. A recipe is one published training for hpo retrain.
    """
    if name is not None:
        text = _file(name).read_text(encoding="utf-8")
        if as_json:
            documents.show("space", {**entry(name), "text": text})
        else:
            print(text, end="")
        return
    entries = [entry(each) for each in search_spaces.shipped()]
    if as_json:
        documents.show_list("space", entries)
    else:
        _show(entries)


def copy(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Name of a search space or recipe, as hpo spaces lists it.",
            autocompletion=completion.shipped,
        ),
    ],
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="File to write. Default: NAME.yaml in this folder.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy a shipped search space or recipe to a file of your own, to change it.

    The copy is a study of its own: it is named after the file, so it does not meet the shipped study's results.
    """
    from hpo.files import write_new
    from hpo.home import Home

    source, target = _file(name), file or Path(f"{name}.yaml")
    write_new(target, copied(source, target), force=force)
    verb = "run" if name in search_spaces.studies() else "retrain"
    step = Home.at().command(f"{verb} {shlex.quote(str(target))}")
    if as_json:
        documents.show("file", {"file": str(target.absolute()), "next": step})
    else:
        print(f"{target}\nNext: {step}")


def entry(name: str) -> dict[str, Any]:
    """What the list says of a shipped file: its name and kind, the comment at its beginning, its settings."""
    from hpo.validation.yaml_reader import read

    path = _file(name)
    text = path.read_text(encoding="utf-8")
    header, settings = search_spaces.header(text), read(text)
    return {
        "name": name,
        "kind": STUDY if name in search_spaces.studies() else RECIPE,
        "file": str(path),
        "summary": header["summary"],
        "data": settings.get(("data", "name")),
        "model": settings.get(("model", "name")),
        "pretrained": settings.get(("model", "pretrained")),
        "epochs": settings.get(("train", "epochs")),
        "trials": settings.get(("budget", "trials")),
        "hardware": header["hardware"],
        "duration": header.get("duration"),
    }


def copied(source: Path, target: Path) -> str:
    """The text of a shipped file such that it means the same at `target`: its paths, its name, its command."""
    first, _, rest = source.read_text(encoding="utf-8").partition("\n")
    schema = (source.parent / first.removeprefix(search_spaces.MODELINE)).resolve()
    rest = re.sub(
        rf"(hpo (?:run|retrain)) {source.stem}\b", lambda found: f"{found[1]} {shlex.quote(str(target))}", rest
    )
    rest = re.sub(r"^study: .*", f"study: {study_name(target)}", rest, count=1, flags=re.MULTILINE)
    return f"{search_spaces.MODELINE}{schema.as_uri()}\n{rest}"


def study_name(file: Path) -> str:
    """The name of a study after its file; characters that no study's name has become `_`."""
    from hpo.home import NAME

    name = re.sub(r"[^A-Za-z0-9_-]", "_", file.name.partition(".")[0])[:64]
    return name if NAME.fullmatch(name) else "study"


def _file(name: str) -> Path:
    """Raises UsageError if nothing of that name ships."""
    from hpo.errors import UsageError
    from hpo.text import close, show

    known = search_spaces.shipped()
    if name not in known:
        hint = close(name, known) or f"shipped with hpo: {', '.join(known)}"
        raise UsageError(f"no search space or recipe named {show(name)} ships with hpo; {hint}")
    return known[name]


def _show(entries: Sequence[Mapping[str, Any]]) -> None:
    from hpo.cli.display.tables import show
    from hpo.home import command

    titles = {
        STUDY: f"Studies, for {command('run', '', 'NAME')}",
        RECIPE: f"Recipes, for {command('retrain', '', 'NAME')}",
    }
    for kind, title in titles.items():
        print(title)
        rows = [each for each in entries if each["kind"] == kind]
        show(_table(rows, (*COLUMNS[kind], "summary")), _table(rows, COLUMNS[kind]), hidden=("summary",))
        print()
    print(f"Read one: {command('spaces', '', 'NAME')}\nChange a copy: {command('copy', '', 'NAME my.yaml')}")


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=True, justify="right" if column == "epochs" else "left")
    for row in rows:
        table.add_row(*(Text(_cell(column, row[column])) for column in columns))
    return table


def _cell(column: str, value: Any) -> str:
    """A short form: the model without the tag of its weights, the first words of a comment."""
    if column == "model":
        return "several" if value is None else str(value).partition(".")[0]
    return re.split(r"; | \(", str(value))[0] if column in ("hardware", "duration") else str(value)
