"""A study on one terminal screen, as a rich renderable made from its record alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.best import gain_over_baseline, incumbent
from hpo.results.progress import SILENT_S, Progress, failures, progress, running, survival
from hpo.results.summary import configuration
from hpo.search.rungs import rung_resource
from hpo.spec.study import SHIPPED_TRAINER
from hpo.text import duration, percent, short_names

FAILURES_SHOWN = 3
FEWEST_ROWS = 3
"""Running trials that are shown before rungs and failures get any room."""
LABEL = 9
"""Width of the left column, characters."""
BAR_LINE = 100
"""Greatest width of a line with a bar, characters: a longer one reads no better."""


@dataclass(frozen=True)
class Screen:
    """The study at a moment, fitted to whatever width and height it is rendered at.

    Lines never wrap unless they are meant to, and two lines of room are left below, so that the screen
    can be painted over in place. What does not fit is summarised.
    """

    study: StudyRecord
    now: float
    """Seconds since the epoch."""
    notes: tuple[str, ...] = ()
    """What happened last that no record tells."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The parts that fit."""
        state = progress(self.study, self.now)
        room = max(1, options.max_height - 2)
        parts: list[RenderableType] = [
            _header(self.study),
            *_bars(self.study, state, min(options.max_width, BAR_LINE)),
            *_best(self.study, options),
        ][:room]  # each is one line
        room -= len(parts)
        active = running(self.study)
        table_least = min(len(active), FEWEST_ROWS) + 3 if active else 0
        below: list[RenderableType] = []
        for part in (_failures(self.study), _rungs(self.study), _notes(self.notes)):
            height = _height(console, options, part)
            if part and height <= room - table_least:
                below += part
                room -= height
        if active and room >= 2 + min(len(active), 2):
            parts += _running(self.study, active, rows=room - 2, width=options.max_width)
        yield from parts
        yield from below


def _height(console: Console, options: ConsoleOptions, parts: Iterable[RenderableType]) -> int:
    return sum(len(console.render_lines(part, options.update(height=None), pad=False)) for part in parts)


def _line(label: str, *content: str | tuple[str, str]) -> Text:
    """One line, cut where the terminal ends."""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{label:<{LABEL}}", "dim")
    for part in content:
        text.append(*part) if isinstance(part, tuple) else text.append(part)
    return text


def _header(study: StudyRecord) -> Text:
    spec = study.spec
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(study.name, "bold")
    shipped = spec.trainer == SHIPPED_TRAINER
    what = f"{spec.model.name} on {spec.data.name}" if shipped else spec.trainer
    pruning = f", ASHA 1/{spec.asha.reduction_factor:g}" if spec.asha.enabled else ""
    text.append(f"  {what}, {spec.train.epochs} epochs; search {spec.search.policy}{pruning}", "dim")
    return text


# --------------------------------------------------------------------------------------------- progress


def _bars(study: StudyRecord, state: Progress, width: int) -> Iterator[RenderableType]:
    left = "" if state.left is None or state.over else f"  ETA {duration(state.left)}"
    yield _bar("trials", state.ended, state.trials, f"{state.ended}/{state.trials} ended{left}", width)
    if state.allowed is not None:
        allowed = f"{duration(state.elapsed)} of {duration(state.allowed)}"
        yield _bar("time", min(state.elapsed, state.allowed), state.allowed, allowed, width)
    else:
        yield _line("time", duration(state.elapsed))
    yield _line("", ", ".join(f"{count} {kind}" for kind, count in state.counts) or "no trial yet")
    if state.silent > SILENT_S and not (state.over and state.ended >= state.trials):
        yield _line(
            "driver",
            (f"no sign of life for {duration(state.silent)}; go on with: hpo resume {study.name}", "yellow"),
        )


def _bar(label: str, done: float, total: float, text: str, width: int) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0), expand=True)
    grid.width = width
    grid.add_column(width=LABEL - 1, style="dim", no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True)
    grid.add_row(label, ProgressBar(total=total, completed=done), text)
    return grid


# ------------------------------------------------------------------------------------------------- best


def _best(study: StudyRecord, options: ConsoleOptions) -> Iterator[RenderableType]:
    trial = incumbent(study)
    if trial is None:
        yield _line("best", "no result yet")
        return
    where = f"  trial {trial.number}, epoch {len(trial.epochs)}/{study.spec.train.epochs}"
    style = "bold green" if trial.complete else "bold"
    yield _line(
        "best" if trial.complete else "ahead",
        (percent(trial.value), style),
        where,
        _gain(study, trial),
        _settles(trial),
    )
    values = configuration(trial)
    pairs = [f"{name}={values[path]}" for path, name in short_names(values).items()]
    for line in _wrapped(pairs, options.max_width - LABEL):
        yield _line("", line)


def _gain(study: StudyRecord, trial: TrialRecord) -> str:
    if study.baseline is not None and study.baseline.number == trial.number:
        return f", the {study.spec.baseline_name}" if trial.complete else ""
    points = gain_over_baseline(study, trial)
    return "" if points is None else f", {100 * points:+.2f} points over the {study.spec.baseline_name}"


def _settles(trial: TrialRecord) -> str:
    return "" if trial.complete else "; no trial is complete yet"


def _wrapped(words: Sequence[str], width: int) -> Iterator[str]:
    """The words in lines of at most `width` characters, two spaces apart; a word is never broken."""
    line = ""
    for word in words:
        if line and len(line) + 2 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line}  {word}" if line else word
    if line:
        yield line


# ---------------------------------------------------------------------------------------------- running


def _running(study: StudyRecord, active: Sequence[TrialRecord], *, rows: int, width: int) -> Iterator[RenderableType]:
    """The table of running trials in `rows` lines after its blank and header line."""
    shown = active if len(active) <= rows else active[: rows - 1]
    hosts = {trial.attempts[-1].host for trial in active}
    cells = [_cells(study, trial, several_hosts=len(hosts - {None}) > 1) for trial in shown]
    titles = ["trial", "stage", "px", "epoch", "last", "best", "images/s", "device"]
    used = sum(max([len(title), *(len(row[index]) for row in cells)]) + 2 for index, title in enumerate(titles))
    extra = _parameters(study, shown, width - used)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in titles:
        table.add_column(title, justify="left" if title == "device" else "right", no_wrap=True)
    for title in extra:
        table.add_column(Text(title), justify="right", no_wrap=True)
    for row, trial in zip(cells, shown, strict=True):
        values = configuration(trial, digits=3)
        named = {name: path for path, name in short_names(study.spec.space).items()}
        table.add_row(*map(Text, row), *(values.get(named[title], "–") for title in extra))
    yield Padding(table, (1, 0, 0, 0), expand=False)
    hidden = active[len(shown) :]
    if hidden:
        yield _more(hidden)


def _cells(study: StudyRecord, trial: TrialRecord, *, several_hosts: bool) -> list[str]:
    last = trial.last
    stages = trial.values.get("train.progressive.stages", study.spec.train.progressive.stages)
    attempt = trial.attempts[-1]
    device = attempt.device or "starting"
    if several_hosts and attempt.host:
        device = f"{device}@{attempt.host}"
    best = max((epoch.metrics.val_accuracy for epoch in trial.epochs), default=None)
    return [
        str(trial.number),
        "–" if last is None or last.stage is None else f"{last.stage + 1}/{stages}",
        "–" if last is None or last.image_size is None else str(last.image_size),
        f"{len(trial.epochs)}/{study.spec.train.epochs}",
        percent(trial.value),
        percent(best),
        "–" if last is None or last.images_per_second is None else f"{last.images_per_second:,.0f}",
        device if len(device) <= 20 else f"{device[:19]}…",
    ]


def _parameters(study: StudyRecord, shown: Sequence[TrialRecord], room: int) -> list[str]:
    """As many of the searched parameters, in the space's order, as `room` characters take."""
    paths = list(study.spec.space)
    fitting = []
    for path, name in short_names(paths).items():
        values = (configuration(trial, digits=3).get(path, "–") for trial in shown)
        room -= max([len(name), *map(len, values)]) + 2
        if room < 0:
            break
        fitting.append(name)
    return fitting


def _more(hidden: Sequence[TrialRecord]) -> Text:
    epochs = [len(trial.epochs) for trial in hidden]
    values = [trial.value for trial in hidden if trial.value is not None]
    speed = sum(trial.last.images_per_second or 0.0 for trial in hidden if trial.last)
    text = f"and {len(hidden)} more: epochs {min(epochs)} to {max(epochs)}"
    if values:
        text += f", last {percent(min(values))} to {percent(max(values))}"
    if speed:
        text += f", {speed:,.0f} images/s together"
    return Text(text, style="dim", no_wrap=True, overflow="ellipsis")


# ------------------------------------------------------------------------------------------------ below


def _rungs(study: StudyRecord) -> list[RenderableType]:
    found = survival(study)
    if not found:
        return []
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    unit = "epoch" if rung_resource(study.spec) == "epochs" else "compute"
    table.add_column(style="dim", no_wrap=True)
    for _ in found:
        table.add_column(justify="right", no_wrap=True)
    table.add_row(f"rung at {unit}", *(f"{rung.level:g}" for rung in found), style="dim")
    table.add_row("reached", *(str(rung.reached) for rung in found))
    table.add_row("stopped", *(str(rung.stopped) for rung in found))
    table.add_row("passed", *(str(rung.passed) for rung in found))
    return [Padding(table, (1, 0, 0, 0), expand=False)]


def _failures(study: StudyRecord) -> list[RenderableType]:
    found = failures(study)
    if not found:
        return []
    lines: list[RenderableType] = [Text("")]
    for numbers, reason in found[:FAILURES_SHOWN]:
        which = f"trial {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} trials, last {numbers[-1]}"
        lines.append(_line("failed", (f"{which}: {reason}", "red")))
    if len(found) > FAILURES_SHOWN:
        lines.append(_line("", f"and {len(found) - FAILURES_SHOWN} other reasons: hpo status {study.name}"))
    return lines


def _notes(notes: Sequence[str]) -> list[RenderableType]:
    return [Text(""), *(_line("note", (note.replace("\n", " "), "dim")) for note in notes)] if notes else []
