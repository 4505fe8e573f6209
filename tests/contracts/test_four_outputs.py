"""Terminal, report, MLflow and JSON give the same answers about the same five studies.

Each output is read as a person or a program reads it: by its texts, tags, metrics and keys. Then the answers are
compared with each other, and with what is known of the studies.
"""

from __future__ import annotations

import html
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from typer.testing import CliRunner

from hpo.cli.app import app
from hpo.cli.display.plain import closing
from hpo.home import Home
from hpo.ledger.records import StudyRecord
from hpo.results.progress import survival
from reports.page import render
from tests.support.five_studies import OUT_OF_MEMORY, write_all

STUDIES = ("custom", "confirmed", "controls", "corner", "front")


@dataclass(frozen=True)
class Answers:
    """What one output says about a study; values as people read them."""

    task: str
    best: int
    accuracy: str
    confirmed: bool
    """The ground of the choice: a confirmation, not the search."""
    baseline: int
    gain: str | None
    """In points; None: the baseline is the best."""
    within_noise: bool | None
    counts: Mapping[str, int]
    gpu_hours: tuple[str, ...]
    """Of the search, and of the confirmation if there is one."""


@dataclass(frozen=True)
class Outputs:
    """What the four outputs say about one study, as it was written."""

    study: StudyRecord
    terminal: str
    closing: str
    """What the terminal shows at the end of a run."""
    page: str
    markdown: str
    run: Run
    """The study's run in MLflow."""
    trials: tuple[Run, ...]
    json: Mapping[str, Any]
    listed: Mapping[str, Any]
    """Of `hpo ls --json`."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    logging.getLogger("alembic").setLevel(logging.WARNING)
    return Home.at(tmp_path_factory.mktemp("contract") / "my home").create()


@pytest.fixture(scope="module")
def outputs(home: Home) -> Iterator[dict[str, Outputs]]:
    """The outputs by study. The report's images are not drawn: they take long and say nothing that this reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(render, "_write_images", lambda figures, folder: None)
        studies = write_all(home)
        listed = {entry["study"]: entry for entry in json.loads(hpo(home, "ls", "--json"))}
        yield {name: read(home, study, listed[name]) for name, study in studies.items()}


def hpo(home: Home, *words: str) -> str:
    result = CliRunner(env={"COLUMNS": "160"}).invoke(app, [*words, "--home", str(home.path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def read(home: Home, study: StudyRecord, listed: Mapping[str, Any]) -> Outputs:
    name = study.name
    link = hpo(home, "report", name).splitlines()[-1]
    page = Path(unquote(urlsplit(link).path))
    client = MlflowClient(tracking_uri=home.mlflow_url)
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id], f"tags.`hpo.study` = '{name}'")
    (run,) = [run for run in runs if "hpo.trial" not in run.data.tags]
    run = client.get_run(run.info.run_id)  # a search returns no data sets
    return Outputs(
        study,
        hpo(home, "status", name),
        closing(study, home.option),
        text_of(page.read_text(encoding="utf-8")),
        (page.parent / "report.md").read_text(encoding="utf-8").replace("\\", ""),
        run,
        tuple(run for run in runs if "hpo.trial" in run.data.tags),
        json.loads(hpo(home, "status", name, "--json")),
        listed,
    )


def text_of(page: str) -> str:
    """The text of an HTML page, without its scripts; a bar at the end of each cell, as in Markdown."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    body = re.sub(r"</(td|th|div)>", " | ", body)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


# ------------------------------------------------------------------------------------------- the readers


def match(pattern: str, text: str) -> re.Match[str]:
    found = re.search(pattern, text)
    assert found, f"{pattern!r} is not in:\n{text}"
    return found


def counted(text: str) -> dict[str, int]:
    """`3 trials: 2 complete, 1 pruned` as numbers."""
    parts = match(r"\d+ trials?: ((?:\d+ [a-z]+(?:, )?)+)", text)[1]
    return {status: int(number) for number, status in re.findall(r"(\d+) ([a-z]+)", parts)}


def charged(text: str) -> tuple[str, ...]:
    search = match(r"GPU-hours: ([\d.]+)|([\d.]+) GPU-hours \(", text)
    confirmation = re.search(r"confirmation took .*?, ([\d.]+) GPU-hours more", text)
    return (search[1] or search[2], *([confirmation[1]] if confirmation else []))


def noise(text: str) -> bool:
    return "within noise" in text


def from_terminal(out: Outputs) -> Answers:
    text = out.terminal
    line = match(r"(?m)^(best|Confirmed): trial (\d+), (?:mean )?validation accuracy (\S+ %)(.*)$", text)
    confirmed = line[1] == "Confirmed"
    gain = match(r"(?m)^Gain over .*$", text)[0] if confirmed else line[4]
    points = re.search(r"([+-]\d+\.\d\d) points", gain)
    return Answers(
        task=text.splitlines()[1],
        best=int(line[2]),
        accuracy=line[3],
        confirmed=confirmed,
        baseline=int(match(r"(?m)^\s*(\d+)\s+\w+\s+baseline\b", text)[1]),
        gain=points[1] if points else None,
        within_noise=noise(gain) if points else None,
        counts=counted(text),
        gpu_hours=charged(text),
    )


def from_report(text: str) -> Answers:
    headline = match(r"Trial (\d+) is (best|confirmed): (\S+ %)[^|]*", text)
    card = match(r"Gain over the baseline \| (?:([+−]\d+\.\d\d)|0) points([^|]*) \| ([^|]*)", text)
    assert (re.search(r"points (above|below) the baseline", headline[0]) is None) == (card[1] is None)
    return Answers(
        task=match(r"([\w.:]+(?: on \w+)?), \d epochs per full training", text)[1],
        best=int(headline[1]),
        accuracy=headline[3],
        confirmed=headline[2] == "confirmed",
        baseline=int(match(r"trial (\d+)", card[3])[1]),
        gain=card[1] and card[1].replace("−", "-"),
        within_noise=noise(headline[0]) and noise(card[2]) if card[1] else None,
        counts=counted(match(r"per full training; [^.]*", text)[0]),
        gpu_hours=charged(text),
    )


def from_mlflow(out: Outputs) -> Answers:
    tags, text = out.run.data.tags, out.run.data.tags["mlflow.note.content"]
    line = match(r"(?m)^- (best so far|confirmed): trial (\d+), .*?validation accuracy .*?(\S+ %)(.*)$", text)
    points = re.search(r"([+-]\d+\.\d\d) points", line[4])
    assert tags["hpo.best_trial"] == line[2]
    origins = {run.data.tags["hpo.origin"]: int(run.data.tags["hpo.trial"]) for run in out.trials}
    counts = counted(text)
    assert counts == Counter(run.data.tags["hpo.outcome"] for run in out.trials)
    model = re.search(r"(?m)^- model: (\S+),", text)
    data = re.search(r"(?m)^- data: (\w+)", text)
    return Answers(
        task=f"{model[1]} on {data[1]}" if model and data else match(r"(?m)^- trainer: (.*)$", text)[1],
        best=int(line[2]),
        accuracy=line[3],
        confirmed=line[1] == "confirmed",
        baseline=origins["baseline"],
        gain=points[1] if points else None,
        within_noise=noise(line[4]) if points else None,
        counts=counts,
        gpu_hours=charged(text),
    )


def from_json(out: Outputs) -> Answers:
    said = out.json
    for key in ("task", "best", "best_val_accuracy", "best_ground", "confirmed_val_accuracy", "gain"):
        assert out.listed[key] == said[key], f"hpo ls --json and hpo status --json differ in {key}"
    confirmed = said["best_ground"] == "confirmed"
    value = said["confirmed_val_accuracy" if confirmed else "best_val_accuracy"]
    gain = said["gain"]
    return Answers(
        task=said["task"],
        best=said["best"],
        accuracy=f"{100 * value:.2f} %",
        confirmed=confirmed,
        baseline=next(trial["number"] for trial in said["trials"] if trial["origin"]["kind"] == "baseline"),
        gain=None if gain is None else f"{100 * gain['value']:+.2f}",
        within_noise=None if gain is None else gain["within_noise"],
        counts=Counter(trial["status"] for trial in said["trials"]),
        gpu_hours=tuple(f"{said[key]:.2f}" for key in ("gpu_hours", "confirmation_gpu_hours") if said[key]),
    )


READERS: Mapping[str, Callable[[Outputs], Answers]] = {
    "terminal": from_terminal,
    "page": lambda out: from_report(out.page),
    "markdown": lambda out: from_report(out.markdown),
    "MLflow": from_mlflow,
    "JSON": from_json,
}

CUSTOM, NETWORK = "tests.synthetic:train", "resnet18 on cifar10"
TRUE = {
    "custom": Answers(
        "tests.synthetic:train", 1, "86.00 %", False, 0, "+6.00", False, {"complete": 2, "pruned": 1}, ()
    ),
    "confirmed": Answers(NETWORK, 1, "94.70 %", True, 0, "+4.20", True, {"complete": 3}, ()),
    "controls": Answers(NETWORK, 0, "80.00 %", False, 0, None, None, {"complete": 6, "pruned": 4}, ()),
    "corner": Answers(NETWORK, 2, "90.20 %", False, 0, "+0.20", True, {"complete": 3, "failed": 2}, ()),
    "front": Answers(NETWORK, 1, "95.00 %", False, 0, "+5.00", False, {"complete": 3}, ()),
}
"""What is known of each study, but for its GPU-hours."""


# --------------------------------------------------------------------------------------------- the contract


@pytest.mark.parametrize("name", STUDIES)
def test_the_four_outputs_agree_on_a_study(outputs: Mapping[str, Outputs], name: str) -> None:
    answers = {output: reader(outputs[name]) for output, reader in READERS.items()}
    for output, said in answers.items():
        assert replace(said, gpu_hours=()) == TRUE[name], output
    assert len({said.gpu_hours for said in answers.values()}) == 1, answers
    assert all(float(hours) > 0 for hours in answers["JSON"].gpu_hours)
    assert len(answers["JSON"].gpu_hours) == (2 if name == "confirmed" else 1)


@pytest.mark.parametrize("name", STUDIES)
def test_the_outputs_propose_the_same_commands_and_all_of_them_name_the_home(
    outputs: Mapping[str, Outputs], home: Home, name: str
) -> None:
    """MLflow proposes none: its server does not know where the home folder lies."""
    out = outputs[name]
    proposed = [step["command"] for step in out.json["next"]]
    assert any(command.startswith(f"hpo export {name}") for command in proposed)
    assert any("hpo retrain" in command for command in proposed) == (name != "custom")
    assert any("hpo confirm" in command for command in proposed) == (name != "confirmed")
    assert any("--pick" in command for command in proposed) == (name == "front")
    option = f" --home '{home.path}'"
    for command in proposed:
        assert option in command
        for text in (out.closing, out.page, out.markdown):
            assert command in text
    for text in (out.terminal, out.closing, out.page, out.markdown, out.run.data.tags["mlflow.note.content"]):
        assert "hpo retrain best.yaml" not in text or "hpo retrain best.yaml" in " ".join(proposed)


def test_no_output_of_another_trainer_names_a_network_or_data_that_it_does_not_read(
    outputs: Mapping[str, Outputs],
) -> None:
    out = outputs["custom"]
    said = [out.terminal, out.closing, out.run.data.tags["mlflow.note.content"]]
    said += [text.partition("Specification with all defaults")[0] for text in (out.page, out.markdown)]
    for text in said:
        assert "efficientnet" not in text
        assert "cifar10" not in text
    assert not out.run.inputs.dataset_inputs


def test_the_outputs_are_equally_sure_of_a_confirmation_in_the_same_words(
    outputs: Mapping[str, Outputs], home: Home
) -> None:
    out = outputs["confirmed"]
    said, chance = (out.json["confirmation"][key] for key in ("certainty", "probability_best"))
    chosen = "trial 1 is the best of the 3 confirmed with a probability of"
    assert said == f"{chosen} {100 * chance:.0f} %; trial 0 may be the best, too"
    for text in (out.terminal, out.closing, out.page, out.markdown, out.run.data.tags["mlflow.note.content"]):
        assert said in " ".join(text.split())
    assert f"confirmed_probability: {chance}" in hpo(home, "export", "confirmed", "-o", "-")
    client = MlflowClient(tracking_uri=home.mlflow_url)
    runs = client.search_runs([out.run.info.experiment_id], "tags.`hpo.study` = 'confirmed.confirmation'")
    (shown,) = [run.data.metrics for run in runs if "confirmed_probability_best" in run.data.metrics]
    assert shown["confirmed_probability_best"] == pytest.approx(chance)


def test_the_outputs_agree_on_what_the_pruning_cost(outputs: Mapping[str, Outputs]) -> None:
    out = outputs["controls"]
    said = out.json["pruning_cost"]
    match(
        r"^Pruning probably cost (nothing|[\d.]+ points) \(95 %: [\d.]+ to [\d.]+ points\): of 4 pruned trials, ", said
    )
    for text in (out.terminal, out.page, out.markdown, out.run.data.tags["mlflow.note.content"]):
        assert said in " ".join(text.split())
    assert not any("chance that the winner was pruned" in text for text in (out.page, out.markdown))


def test_a_failed_corner_is_counted_once_and_its_reason_is_the_same_everywhere(outputs: Mapping[str, Outputs]) -> None:
    out = outputs["corner"]
    assert out.terminal.count(OUT_OF_MEMORY) == 2
    reasons = [trial["reason"] for trial in out.json["trials"] if trial["status"] == "failed"]
    assert reasons == [OUT_OF_MEMORY] * 2
    assert [run.data.tags["hpo.reason"] for run in out.trials if run.data.tags["hpo.outcome"] == "failed"] == reasons
    for text in (out.page, out.markdown):
        assert len(re.findall(rf"[13] \| before its first report \| {re.escape(OUT_OF_MEMORY)}", text)) == 2


def test_the_outputs_agree_on_the_pareto_front(outputs: Mapping[str, Outputs]) -> None:
    out = outputs["front"]
    front = [(entry["place"], entry["trial"]) for entry in out.json["front"]]
    assert front == [(0, 1), (1, 2), (2, 0)]
    row = re.compile(r"(?<![\d.])([012])[ |]+([012])[ |]+\d\d\.00 %[ |]+\d,000(?!\d)")
    for text in (out.terminal, out.page, out.markdown, out.run.data.tags["mlflow.note.content"]):
        assert [(int(place), int(trial)) for place, trial in row.findall(text)] == front


def test_the_survival_of_rungs_adds_up_to_the_counts_of_every_output(outputs: Mapping[str, Outputs]) -> None:
    out = outputs["controls"]
    first, second = survival(out.study)
    counts = from_json(out).counts
    assert (first.reached, first.stopped, first.controls) == (10, 4, 6)
    assert first.stopped + second.stopped == counts["pruned"]
    assert second.passed == counts["complete"]
    for text in (out.page, out.markdown):
        assert "Controls are trials that ASHA never stops." in text
