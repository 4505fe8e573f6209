"""The commands that show a study or use its results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpo.cli import completion
from hpo.cli.options import HomeOption, JsonOption, SearchBestOption, StudyArgument
from hpo.cli.programs import documents

if TYPE_CHECKING:
    from hpo.export.retrain import Retraining


def status(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME", help="Name of a study. Default: the newest study.", autocompletion=completion.studies
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Update the view every 2 seconds until the study ends.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the trials of a study."""
    from hpo.cli.display.status import show_study
    from hpo.cli.display.studies import newest
    from hpo.errors import UsageError
    from hpo.home import Home

    if watch and as_json:
        raise UsageError("--watch and --json exclude each other; leave one of them out")
    place = Home.at(home)
    if watch:
        from hpo.cli.display.watch import watch as follow

        follow(place, name or newest(place))
    else:
        show_study(place, name or newest(place), as_json)


def audit(name: StudyArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Estimate how often pruning stops the best trial.

    The estimate comes from the controls of the study: trials that train to the end whatever ASHA decides
    (asha.controls).
    """
    from hpo.cli.display.audit import show_audit
    from hpo.home import Home

    show_audit(Home.at(home), name, as_json)


def ls(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the studies of a home folder: what each is doing, how far it is, its best and its confirmed trial."""
    from hpo.cli.display.studies import show_studies
    from hpo.home import Home

    show_studies(Home.at(home), as_json)


def export(
    name: StudyArgument,
    form: Annotated[
        str,
        typer.Option(
            "--format", help="Output: hpo or timm for the configuration; hf, onnx or pt2 for the retrained model."
        ),
    ] = "hpo",
    trial: Annotated[int | None, typer.Option(help="Number of the trial to export. Default: the best trial.")] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="Number of trials to export, best first, into a folder.")
    ] = None,
    search_best: SearchBestOption = False,
    pick: Annotated[
        str | None,
        typer.Option(
            help="Trial of the Pareto front: knee, max:OBJECTIVE, min:OBJECTIVE, or its place in hpo status NAME."
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="Folder that hpo retrain wrote. Default: found in the home folder.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write, - for standard output. A folder for --top and models. Default: in the home folder.",
        ),
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the best configuration, or the model retrained from it, to a file."""
    from hpo.errors import UsageError
    from hpo.export.files import Format, Request, chosen_trial, configuration_text
    from hpo.export.files import export as write
    from hpo.home import Home
    from hpo.ledger.reader import read_study
    from hpo.results.best import training

    formats = [each.value for each in Format]
    if form not in formats:
        raise UsageError(f"--format {form}: unknown format; choose one of {', '.join(formats)}")
    place, wanted = Home.at(home), Format(form)
    request = Request(name, wanted, trial, top, pick, model, search_best, output)
    request.check()
    if output == Path("-"):
        if top is not None or not wanted.is_configuration:
            raise UsageError("-o - prints one configuration; name a folder for several trials or for a model")
        if as_json:
            raise UsageError("-o - prints the configuration itself to standard output; leave --json out")
        study = read_study(place, name)
        print(configuration_text(training(study, chosen_trial(study, request).number), wanted), end="")
        return
    written = write(place, request)
    if as_json:
        exports = [exported.to_json(wanted) for exported in written]
        if top is None:
            documents.show("export", exports[0])
        else:
            documents.show_list("export", exports)
        return
    for exported in written:
        print("\n".join(filter(None, (str(exported.file), exported.remark))))


def report(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME", help="Name of a study. Several names: compare them.", autocompletion=completion.studies
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the report. Default: report/ in the study's folder."),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a report: one self-contained HTML page, and Markdown with images.

    Prints the answer, whether it is real, what to do next, and a link to the page.
    """
    from hpo.cli.display.terminal.browser import open_page
    from hpo.cli.programs.findings import report_json
    from hpo.errors import UsageError
    from hpo.home import Home
    from hpo.ledger.reader import read_study
    from reports.page.finding import brief
    from reports.page.render import write_report

    place = Home.at(home)
    studies = [read_study(place, name) for name in names]
    if len({study.spec.objective for study in studies}) > 1:
        objectives = ", ".join(f"{study.name}: {study.spec.objective.label}" for study in studies)
        raise UsageError(f"studies with different objectives cannot be compared ({objectives}); report them one by one")
    folder = output or place.study(names[0]) / "report"
    try:
        page = write_report(studies, folder, place.option)
    except OSError as error:
        raise UsageError(f"the report cannot be written to {folder}: {error.strerror}") from error
    if as_json:
        documents.show("report", report_json(studies, page, place))
    else:
        print("\n".join([*brief(studies, place.option), page.resolve().as_uri()]))
    if show:
        open_page(page)


def retrain(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Exported YAML file, name of a study (its best trial), or name of a shipped recipe.",
            autocompletion=completion.trainings,
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Settings to change, for example train.epochs=20.",
            autocompletion=completion.training_overrides,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Train for so many epochs, with an average of the weights as much longer. This is a configuration of "
            "its own.",
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            min=1, help="Number of trainings, each with another seed. 2 or more give mean and standard deviation."
        ),
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first training. Each further training adds 1.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for weights and metrics. Default: retrained/ in the home folder."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Device to train on: auto, cpu or cuda. auto takes a GPU if there is one.")
    ] = "auto",
    search_best: SearchBestOption = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a configuration on the training and validation images, then evaluate the test set once."""
    from hpo.export.retrain import NO_TEST, prepare
    from hpo.home import Home
    from hpo.text import percent
    from hpo.tracking.models import publish

    place = Home.at(home)
    retraining = prepare(file, overrides or [], place, output, search_best=search_best, epochs=epochs)
    last = retraining.training.train.epochs
    for remark in retraining.remarks:
        print(f"warning: {remark}", file=sys.stderr)
    _warn_of_earlier(retraining)
    repeats = retraining.run(
        range(seed, seed + seeds),
        device,
        on_epoch=lambda which, metrics: print(
            f"seed {which} epoch {metrics.epoch}/{last}  train loss {metrics.train_loss:.4f}", file=sys.stderr
        ),
    )
    _warn_of_earlier(retraining)
    if retraining.study is not None:
        print(publish(place, retraining.study), file=sys.stderr)
    if as_json:
        documents.show("retraining", retraining.summary(repeats))
        return
    spread = ""
    if repeats.deviation is not None:
        spread = f" ± {100 * repeats.deviation:.2f} (mean and standard deviation over {seeds} seeds)"
    result = NO_TEST if repeats.mean is None else f"test accuracy {percent(repeats.mean)}{spread}"
    print(f"{result}\nweights, config.json and metrics: {retraining.output}")


def _warn_of_earlier(retraining: Retraining) -> None:
    """Warn before the training, when it can still be stopped, and again beside the result."""
    counts = {
        "for this configuration": retraining.evaluations_before,
        "for its trial with other settings": retraining.evaluations_of_variants,
    }
    parts = [f"{'once' if count == 1 else f'{count} times'} before {what}" for what, count in counts.items() if count]
    if parts:
        print(
            f"warning: the test set was evaluated {' and '.join(parts)}; "
            "if you choose by test accuracy, the test result is too optimistic",
            file=sys.stderr,
        )
