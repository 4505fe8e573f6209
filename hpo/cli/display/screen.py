"""A study on one terminal screen, as a rich renderable made from its record alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hpo.cli.display.running_trials import running_trials
from hpo.cli.display.terminal.steady import Steady
from hpo.home import Home, confirmed_study
from hpo.ledger.records import StudyRecord
from hpo.results.best import incumbent
from hpo.results.progress import Progress, progress
from hpo.results.summary import configuration
from hpo.results.sums.parts import Survival
from hpo.results.sums.study import Sums
from hpo.results.winner import winner
from hpo.search.rungs import rung_resource
from hpo.text import clock_time, duration, short_names

FAILURES_SHOWN = 3
FEWEST_ROWS = 3
"""Running trials that have room before rungs and failures."""
SMALL = 24
"""Height of a terminal that has no room for the baseline's value, lines."""
LABEL = 9
"""Width of the left column, characters."""


@dataclass(frozen=True)
class Screen:
    """A study at one moment. It fits any width and height.

    No line is wider than the terminal and two lines below stay free, so that the screen can be painted over in
    place. Parts that do not fit are summarised.
    """

    study: StudyRecord
    home: Home
    """The folder of the study, for the commands to type."""
    silent: float = 0.0
    """Seconds since the record last changed, by the clock of whoever watches it."""
    notes: tuple[str, ...] = ()
    """The newest output of libraries, which is not recorded."""
    steady: Steady | None = None
    """Eases the time left from picture to picture; None: the newest estimate is shown."""
    leaving: bool = False
    """Whether the driver that shows it is done. What became of the study is printed below."""
    sums: Sums | None = None
    """Of the newest records of its trials, where they are kept; None: of `study.trials`."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the parts that fit."""
        sums = self.sums or Sums(self.study.spec, self.study.trials)
        state = progress(self.study, self.silent, sums.counts, sums.pace)
        room = max(1, options.max_height - 2)
        parts: list[RenderableType] = [
            _header(self.study),
            *_bars(self, state, options.max_width),
            *_best(self.study, sums, options),
        ][:room]  # each is one line
        room -= len(parts)
        active = sums.running
        table_least = min(len(active), FEWEST_ROWS) + 3 if active else 0
        failed, rungs = _failures(sums.failures.kinds, self.study, self.home), _rungs(sums.rungs.survival, self.study)
        notes = _notes(self.notes)
        for part in (failed, notes, rungs):  # the most important first
            height = _height(console, options, part)
            if height <= room - table_least:
                room -= height
            else:
                part.clear()
        if active and room >= 2 + min(len(active), 2):
            marks = _marks(sums)
            parts += running_trials(
                self.study, active, rows=room - 2, width=options.max_width, now=state.now, marks=marks
            )
        yield from (*parts, *failed, *rungs, *notes)


def _marks(sums: Sums) -> dict[int, str]:
    """What is special about running trials, by number."""
    marks = {trial.number: "control" for trial in sums.running if trial.control}
    if sums.baseline is not None:
        marks[sums.baseline] = "baseline"
    if sums.leader is not None:
        marks[sums.leader] = ", ".join(filter(None, ("best", marks.get(sums.leader))))
    return marks


def _height(console: Console, options: ConsoleOptions, parts: Iterable[RenderableType]) -> int:
    return sum(len(console.render_lines(part, options.update(height=None), pad=False)) for part in parts)


def _line(label: str, *content: str | tuple[str, str]) -> Text:
    """One line, cut at the edge of the terminal."""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{label:<{LABEL}}", "dim")
    for part in content:
        text.append(*part) if isinstance(part, tuple) else text.append(part)
    return text


def _header(study: StudyRecord) -> Text:
    spec = study.spec
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(study.name, "bold")
    pruning = f", ASHA factor {spec.asha.reduction_factor:g}" if spec.asha.enabled else ""
    how = f"search {spec.search.policy}{pruning}" if confirmed_study(study.name) is None else "new seeds, no pruning"
    text.append(f"  {spec.task}, {spec.train.epochs} epochs; {how}", "dim")
    return text


# --------------------------------------------------------------------------------------------- progress


def _bars(screen: Screen, state: Progress, width: int) -> Iterator[RenderableType]:
    seconds = screen.steady.show(state.left) if screen.steady else state.left
    left = "" if seconds is None or state.state != "running" or screen.leaving else f"  ETA {duration(seconds)}"
    yield _bar("trials", state.ended, state.trials, f"{state.ended}/{state.trials} ended{left}", width)
    if state.allowed is not None:
        allowed = f"{duration(state.elapsed)} of {duration(state.allowed)}"
        yield _bar("time", min(state.elapsed, state.allowed), state.allowed, allowed, width)
    else:
        yield _line("time", duration(state.elapsed))
    yield _line("", ", ".join(f"{count} {kind}" for kind, count in state.counts) or "no trial yet")
    if not screen.leaving:
        yield from _state(screen.study, state, screen.home)


def _state(study: StudyRecord, state: Progress, home: Home) -> Iterator[RenderableType]:
    """What a person must know of a study that does not just train."""
    if state.resumable:
        yield _line("state", (f"{state.words}; continue with:", "yellow"))
        yield _line("", (home.command(f"resume {study.name}"), "yellow"))
    elif state.state == "paused" and study.paused:
        yield _line("state", (f"paused by {study.paused.by} since {clock_time(study.paused.since)}", "yellow"))
    elif state.state != "running":
        reason = f": {study.ended.partition(': ')[2]}" if study.ended else ""
        yield _line("state", (f"{state.state}{reason}", "red" if state.state == "failed" else "green"))
    elif state.stopping:
        yield _line("state", (state.words, "yellow"))
    elif beginning := state.beginning:
        yield _line("state", beginning)


def _bar(label: str, done: float, total: float, text: str, width: int) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0), expand=True)
    grid.width = width
    grid.add_column(width=LABEL - 1, style="dim", no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True)
    grid.add_row(label, ProgressBar(total=total, completed=done), text)
    return grid


# ------------------------------------------------------------------------------------------------- best


def _best(study: StudyRecord, sums: Sums, options: ConsoleOptions) -> Iterator[RenderableType]:
    study = dataclasses.replace(study, trials=sums.eminent(study.repeats))
    best = winner(study, sums.gaps)
    trial = best.trial if best else incumbent(study)
    if trial is None:
        yield _line("best", "no result yet")
        return
    where = f"  {trial.label}, epoch {len(trial.epochs)}/{study.spec.train.epochs}"
    if best is None:
        yield _line(
            "leading", (study.spec.objective.show_score(trial.value), "bold"), where, "; no trial is complete yet"
        )
    else:
        if best.baseline and not best.is_baseline and options.max_height > SMALL:
            value = study.spec.objective.show_score(best.baseline.value)
            yield _line("baseline", value, f"  {best.baseline.label}")
        mean = " (mean over new seeds)" if best.confirmation else ""
        yield _line("best", (best.shown, "bold green"), mean, where, best.compared)
    values = configuration(trial)
    pairs = [f"{name}={values[path]}" for path, name in short_names(values).items()]
    for line in _wrapped(pairs, options.max_width - LABEL):
        yield _line("", line)


def _wrapped(words: Sequence[str], width: int) -> Iterator[str]:
    """Lines of words, each at most `width` characters. Two spaces are between words, and no word is broken."""
    line = ""
    for word in words:
        if line and len(line) + 2 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line}  {word}" if line else word
    if line:
        yield line


# ------------------------------------------------------------------------------------------------ below


def _rungs(rungs: Sequence[Survival], study: StudyRecord) -> list[RenderableType]:
    if not any(rung.reached for rung in rungs):
        return []
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    unit = "epoch" if rung_resource(study.spec) == "epochs" else "compute"
    table.add_column(style="dim", no_wrap=True)
    for _ in rungs:
        table.add_column(justify="right", no_wrap=True)
    table.add_row(f"rung at {unit}", *(f"{rung.level:g}" for rung in rungs), style="dim")
    controls = any(rung.controls for rung in rungs)  # in the same row, because a small terminal has few
    reached = (f"{rung.reached} ({rung.controls})" if controls else str(rung.reached) for rung in rungs)
    table.add_row("reached (controls)" if controls else "reached", *reached)
    table.add_row("stopped", *(str(rung.stopped) for rung in rungs))
    table.add_row("passed", *(str(rung.passed) for rung in rungs))
    return [Padding(table, (1, 0, 0, 0), expand=False)]


def _failures(reasons: Sequence[tuple[list[int], str]], study: StudyRecord, home: Home) -> list[RenderableType]:
    if not reasons:
        return []
    lines: list[RenderableType] = [Text("")]
    for numbers, reason in reasons[:FAILURES_SHOWN]:
        which = f"trial {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} trials, last {numbers[-1]}"
        lines.append(_line("failed", (f"{which}: {reason}", "red")))
    if len(reasons) > FAILURES_SHOWN:
        more = home.command(f"status {study.name}")
        lines.append(_line("", f"and {len(reasons) - FAILURES_SHOWN} other reasons; see: {more}"))
    return lines


def _notes(notes: Sequence[str]) -> list[RenderableType]:
    return [Text(""), *(_line("note", (note.replace("\n", " "), "dim")) for note in notes)] if notes else []
