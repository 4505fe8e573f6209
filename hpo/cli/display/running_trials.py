"""The table of running trials on the screen of a study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.text import Text

from hpo.cli.display.tables import aligned
from hpo.ledger.records import StudyRecord, TrialRecord
from hpo.results.summary import configuration
from hpo.spec.objectives import Objective
from hpo.text import duration, short_names

TITLES = ("trial", "stage", "px", "epoch", "val acc", "best", "images/s", "device")


def running_trials(
    study: StudyRecord,
    running: Sequence[TrialRecord],
    *,
    rows: int,
    width: int,
    now: float,
    marks: Mapping[int, str] | None = None,
) -> Iterator[RenderableType]:
    """A table of running trials: a blank line, the header, and at most `rows` lines of at most `width` characters.

    If there are more trials than rows, the last row summarises the trials that are not shown. If there are more
    parameters than columns, the last title counts those that are hidden.

    Args:
        now: seconds since the epoch, by the driver's clock.
        marks: a word about some of the trials, by number; the best of all is in bold.
    """
    shown = running if len(running) <= rows else running[: rows - 1]
    hosts = {trial.attempts[-1].host for trial in running}
    cells = [_cells(study, trial, now, several_hosts=len(hosts - {None}) > 1) for trial in shown]
    titles, words = list(TITLES), [(marks or {}).get(trial.number, "") for trial in shown]
    if any(words):
        titles.append("")
        cells = [[*row, word] for row, word in zip(cells, words, strict=True)]
    used = sum(max([len(title), *(len(row[index]) for row in cells)]) + 2 for index, title in enumerate(titles))
    parameters, more = _parameters(study, shown, width - used)
    for row, trial in zip(cells, shown, strict=True):
        values = configuration(trial, digits=3)
        row += [*(values.get(path, "–") for path in parameters), *([""] if more else [])]
    titles += [*parameters.values(), *([more] if more else [])]
    bold = {place for place, word in enumerate(words) if word.startswith("best")}
    yield Text("")
    yield from aligned(titles, cells, left=("device", ""), style="dim", bold=bold)
    hidden = running[len(shown) :]
    if hidden:
        yield _summary(hidden, study.spec.objective)


def _cells(study: StudyRecord, trial: TrialRecord, now: float, *, several_hosts: bool) -> list[str]:
    last = trial.last
    stages = trial.values.get("train.progressive.stages", study.spec.train.progressive.stages)
    best, goal = max((epoch.value for epoch in trial.epochs), default=None), study.spec.objective
    return [
        trial.label.removeprefix("trial "),
        "–" if last is None or last.stage is None else f"{last.stage + 1}/{stages}",
        "–" if last is None or last.image_size is None else str(last.image_size),
        f"{len(trial.epochs)}/{study.spec.train.epochs}",
        goal.show_score(trial.value),
        goal.show_score(best),
        "–" if last is None or last.images_per_second is None else f"{last.images_per_second:,.0f}",
        _worker(trial, now, several_hosts=several_hosts),
    ]


def _worker(trial: TrialRecord, now: float, *, several_hosts: bool) -> str:
    """The device of the trial; before the first epoch of its worker, what that does and for how long:
    `training 0:01:23`."""
    attempt = trial.attempts[-1]
    begins = attempt.phase is not None and attempt.resumed_after == len(trial.epochs)
    if begins or attempt.device is None:
        since = attempt.started if attempt.phase_since is None else attempt.phase_since
        return f"{attempt.phase or 'starting'} {duration(max(0.0, now - since))}"
    device = f"{attempt.device}@{attempt.host}" if several_hosts and attempt.host else attempt.device
    return device if len(device) <= 20 else f"{device[:19]}…"


def _parameters(study: StudyRecord, shown: Sequence[TrialRecord], room: int) -> tuple[dict[str, str], str]:
    """As many searched parameters as fit into `room` characters: each path with its short name. And `+3 more` if so
    many are hidden and there is room to say so."""
    names, configurations = short_names(study.spec.space), [configuration(trial, digits=3) for trial in shown]
    widths = [
        max([len(name), *(len(values.get(path, "–")) for values in configurations)]) + 2 for path, name in names.items()
    ]
    for count in range(len(names), -1, -1):
        more = f"+{len(names) - count} more" if count < len(names) else ""
        if sum(widths[:count]) + (len(more) + 2 if more else 0) <= room:
            return dict(list(names.items())[:count]), more
    return {}, ""


def _summary(hidden: Sequence[TrialRecord], goal: Objective) -> Text:
    epochs = [len(trial.epochs) for trial in hidden]
    values = [trial.value for trial in hidden if trial.value is not None]
    speed = sum(trial.last.images_per_second or 0.0 for trial in hidden if trial.last)
    text = f"and {len(hidden)} more: epochs {min(epochs)} to {max(epochs)}"
    if values:
        text += f", {goal.column} {goal.show_score(min(values))} to {goal.show_score(max(values))}"
    if speed:
        text += f", {speed:,.0f} images/s in all"
    return Text(text, style="dim", no_wrap=True, overflow="ellipsis")
