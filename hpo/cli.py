"""The command line. Commands are thin: they parse, call one function and print. Heavy imports wait inside them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from hpo import completion
from hpo.errors import HpoError

app = typer.Typer(
    name="hpo",
    help="Search hyperparameters for EfficientNetV2: run a study, browse it in MLflow, export and retrain the best.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Folder for everything studies write.", envvar="HPO_HOME", show_default="./runs"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Show Ray's own output too.")]
SpecArgument = Annotated[
    str,
    typer.Argument(
        metavar="SPEC", help="A YAML file, or the name of a shipped search space.", autocompletion=completion.specs
    ),
]
OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Overrides, e.g. budget.trials=20.", autocompletion=completion.overrides
    ),
]
StudyArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of a study.", autocompletion=completion.studies)
]
SearchBestOption = Annotated[
    bool, typer.Option("--search-best", help="The best of the search, also where a confirmation chose another.")
]


def main() -> None:
    """Entry point: runs a command and turns errors into messages and exit codes."""
    from hpo.signals import Interrupted, handle_early
    from trainers.api import TrainerError

    handle_early()
    try:
        app()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Interrupted as error:
        code = _say(error)
        sys.stdout.flush()
        os._exit(code)  # what was interrupted may be a start of Ray, whose threads do not let the process end
    except HpoError as error:
        sys.exit(_say(error))
    except TrainerError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _say(error: HpoError) -> int:
    from hpo.redact import redact
    from hpo.signals import Interrupted

    interrupted = isinstance(error, Interrupted)
    print(redact(str(error) if interrupted else f"error: {error}"), file=sys.stderr)
    if error.advice:
        print(error.advice, file=sys.stderr)
    return error.status if isinstance(error, Interrupted) else error.exit_code


# ----------------------------------------------------------------------------------------------- studies


@app.command()
def run(
    spec: SpecArgument,
    overrides: OverridesArgument = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would do and cost; write nothing.")] = False,
    home: HomeOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Run a new study."""
    from hpo import launch
    from hpo.config import load_spec
    from hpo.home import Home

    loaded = load_spec(spec, overrides or [])
    place = Home.at(home)
    if dry_run:
        from rich.console import Console

        from hpo.dry_run import rehearse

        console = Console(highlight=False, markup=False, emoji=False)
        for part in rehearse(loaded, place):
            console.print(part, soft_wrap=isinstance(part, str))
        return
    _finish(
        home,
        verbose,
        lambda view: launch.run(loaded, place, view=view, figures=_plots, verbose=verbose),
    )


@app.command()
def resume(
    name: StudyArgument,
    overrides: OverridesArgument = None,
    home: HomeOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Go on with an interrupted study, or extend a finished one (budget.trials=N)."""
    from hpo import launch
    from hpo.changes import revise
    from hpo.home import Home

    place = Home.at(home)
    _finish(
        home,
        verbose,
        lambda view: launch.resume(
            name,
            place,
            view=view,
            changes=lambda recorded: revise(recorded, overrides or []),
            figures=_plots,
            verbose=verbose,
        ),
    )


@app.command()
def confirm(
    name: StudyArgument,
    top: Annotated[int, typer.Option(help="The best so many configurations; the default recipe comes on top.")] = 5,
    seeds: Annotated[int, typer.Option(help="Train each so often, with seeds that the search has not used.")] = 3,
    home: HomeOption = None,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the best configurations again with fresh seeds, and choose one."""
    from hpo.confirmation import confirmation
    from hpo.home import Home
    from hpo.launch_confirm import confirm as train_again
    from hpo.verdict import confirmation_json, verdict

    place = Home.at(home)
    study = _drive(
        home,
        verbose,
        lambda view: train_again(
            name,
            place,
            top=top,
            seeds=seeds,
            view=view,
            say=lambda text: print(text, file=sys.stderr),
            verbose=verbose,
        ),
    )
    found = confirmation(study)
    if as_json:
        print(json.dumps(confirmation_json(found)))
        return
    print(verdict(found))
    print(f"Written: {place.incumbent(name)}. Next: hpo retrain {name}{_home_option(home)}")


def _plots(study: Any) -> Any:
    """What MLflow shows of a study; imported when it is first drawn."""
    from reports.render import plots

    return plots(study)


def _finish(home: Path | None, verbose: bool, work: Callable[[Any], Any]) -> None:
    from hpo.view import closing

    print(closing(_drive(home, verbose, work), _home_option(home)))


def _home_option(home: Path | None) -> str:
    return f" --home {home}" if home and "HPO_HOME" not in os.environ else ""


def _drive(home: Path | None, verbose: bool, work: Callable[[Any], Any]) -> Any:
    """What `work` returns, given what makes a view."""
    from hpo.home import Home
    from hpo.view import choose

    with choose(Home.at(home), verbose=verbose) as view:
        return work(view)


@app.command()
def status(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", autocompletion=completion.studies)] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing it until it is over.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a study's trials, or the newest study's."""
    from hpo.errors import UsageError
    from hpo.home import Home
    from hpo.status import newest, show_study
    from hpo.watch import watch as follow

    if watch and as_json:
        raise UsageError("--watch shows a study to a person and --json to a program; leave one of them out")
    place = Home.at(home)
    if watch:
        follow(place, name or newest(place))
    else:
        show_study(place, name or newest(place), as_json)


@app.command()
def audit(name: StudyArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Say what a study's pruning costs, judged by its controls."""
    from hpo.audit import show_audit
    from hpo.home import Home

    show_audit(Home.at(home), name, as_json)


@app.command()
def ls(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the studies of a home folder."""
    from hpo.home import Home
    from hpo.status import show_studies

    show_studies(Home.at(home), as_json)


@app.command()
def export(
    name: StudyArgument,
    form: Annotated[
        str, typer.Option("--format", help="hpo or timm: a configuration; hf, onnx or pt2: the retrained model.")
    ] = "hpo",
    trial: Annotated[int | None, typer.Option(help="A certain trial instead of the best.")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="The best so many trials instead of one.")] = None,
    search_best: SearchBestOption = False,
    pick: Annotated[
        str | None,
        typer.Option(help="Of several objectives: knee, max:val_accuracy, min:params and the like, or a place."),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Folder that hpo retrain wrote; otherwise looked for in the home folder.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write, - for standard output; a folder with --top or of a model."),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the best configuration, or the model retrained from it, for use elsewhere."""
    from hpo.errors import UsageError
    from hpo.export import training
    from hpo.export_files import Format, Request, chosen_trial, configuration_text
    from hpo.export_files import export as write
    from hpo.home import Home
    from hpo.ledger import load_study
    from hpo.storage import open_existing

    if form not in [known.value for known in Format]:
        raise UsageError(f"--format {form} is none of {', '.join(known.value for known in Format)}")
    place, wanted = Home.at(home), Format(form)
    if output == Path("-"):
        if top is not None or not wanted.is_configuration:
            raise UsageError("-o - prints one configuration; give a folder for several, or for a model")
        study = load_study(open_existing(place, name), name)
        chosen = chosen_trial(study, Request(name, wanted, trial, top, pick, search_best=search_best))
        print(configuration_text(training(study, chosen.number), wanted), end="")
        return
    written = write(place, Request(name, wanted, trial, top, pick, model, search_best, output))
    if as_json:
        found = [one.to_json(wanted) for one in written]
        print(json.dumps(found if top is not None else found[0]))
        return
    for one in written:
        print("\n".join(filter(None, (str(one.file), one.remark))))


@app.command()
def report(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME...", help="One study, or several to compare.", autocompletion=completion.studies),
    ],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the page and its images.")] = None,
    home: HomeOption = None,
) -> None:
    """Write a study's report: one self-contained HTML page, and Markdown with images."""
    from hpo.home import Home
    from hpo.ledger import load_study
    from hpo.storage import open_existing
    from reports.render import write_report

    place = Home.at(home)
    studies = [load_study(open_existing(place, name), name) for name in names]
    print(write_report(studies, output or place.study(names[0]) / "report"))


@app.command()
def retrain(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="An exported YAML file, the name of a study (its best) or of a shipped recipe.",
            autocompletion=completion.trainings,
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Overrides, e.g. train.epochs=20.",
            autocompletion=completion.training_overrides,
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat with this many seeds; report mean and deviation.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The first seed.")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for weights and metrics.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    search_best: SearchBestOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a configuration on train + validation and evaluate the test set once."""
    from hpo.home import Home
    from hpo.retraining import find, record, summary
    from hpo.retraining import retrain as train_again
    from hpo.summary import percent
    from hpo.tracking import publish

    place = Home.at(home)
    training, called = find(file, overrides or [], place, search_best=search_best)
    place.create()
    folder = output or place.path / "retrained" / called
    repeats = train_again(
        training,
        place,
        folder,
        seeds=range(seed, seed + seeds),
        device=device,
        on_epoch=lambda which, metrics: print(
            f"seed {which} epoch {metrics.epoch}/{training.train.epochs}  train loss {metrics.train_loss:.4f}",
            file=sys.stderr,
        ),
    )
    before = record(training, repeats, place)
    if before:
        print(
            f"warning: the test set was opened for this configuration {before} times before; "
            "choosing by test accuracy makes it no test any more",
            file=sys.stderr,
        )
    if before is not None and training.provenance and training.provenance.study:
        print(publish(place, training.provenance.study), file=sys.stderr)
    if as_json:
        print(json.dumps(summary(training, repeats)))
        return
    deviation = (
        f" ± {100 * repeats.deviation:.2f} (standard deviation of {seeds} seeds)"
        if repeats.deviation is not None
        else ""
    )
    print(f"test accuracy {percent(repeats.mean)}{deviation}\nweights, config.json and metrics: {folder}")


# ------------------------------------------------------------------------------------------------- tools


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 5000,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Print this study's page.", autocompletion=completion.studies),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Serve the MLflow UI of a home folder on 127.0.0.1."""
    from hpo.home import Home
    from hpo.ui import serve

    raise typer.Exit(serve(Home.at(home), name, port))


@app.command()
def validate(spec: SpecArgument, overrides: OverridesArgument = None) -> None:
    """Check a specification and print every error in it."""
    from hpo.advice import advice
    from hpo.config import load_spec

    loaded = load_spec(spec, overrides or [])
    for warning in advice(loaded):
        print(f"warning: {warning}", file=sys.stderr)
    print(
        f"{spec}: valid. Study {loaded.study}: {len(loaded.space)} searched parameters, {loaded.budget.trials} trials."
    )


@app.command()
def schema(
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference for people instead.")] = False,
) -> None:
    """Print the JSON Schema of specifications, for editors."""
    if as_markdown:
        from hpo.reference import markdown

        print(markdown(), end="")
        return
    from hpo.config import json_schema

    print(json.dumps(json_schema(), indent=2))


@app.command()
def doctor(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="Compare this study's ledger with MLflow too.",
            autocompletion=completion.studies,
        ),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Check this machine and say what to do about each failure."""
    from hpo.doctor import examine
    from hpo.home import Home

    raise typer.Exit(examine(Home.at(home), name, _plots))
