"""The report as HTML and Markdown, for many kinds of studies."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import StudyRecord, TrialRecord
from reports.analysis.answer import answer
from reports.drawing.plot import Plot
from reports.figures.survival import survival_plot
from reports.page.audit import audit_section
from reports.page.cards import cards
from reports.page.render import IMAGES, escape_markdown, fenced, write_report
from reports.page.reproduce import reproduction
from reports.page.sentences import headline, state
from tests.browser.simulation import BEGIN, simulated_study, study_spec
from tests.support.undrawn_report import write_undrawn
from trainers.api import EpochMetrics

HOSTILE = """<script>alert(1)</script> <img src=x onerror=alert(2)> | `rm` [a](javascript:x) $\\frac{"""


@pytest.fixture(scope="module")
def study() -> StudyRecord:
    """Forty trials: complete, pruned and failed ones, and some that lost their worker."""
    return simulated_study()


@pytest.fixture(scope="module")
def folder(study: StudyRecord, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of that study's report."""
    return write_report([study], tmp_path_factory.mktemp("report")).parent


class Page(HTMLParser):
    """The parts of a page that the tests read."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.figures: dict[str, Any] = {}
        self._silent = self._figures = False
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent = tag in ("script", "style")
        self._figures = dict(attrs).get("id") == "figures"

    def handle_endtag(self, tag: str) -> None:
        self._silent = self._figures = False

    def handle_data(self, data: str) -> None:
        if self._figures:
            self.figures = json.loads(data)
        elif not self._silent:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def strings(value: Any) -> Iterator[str]:
    """Yield all texts in the JSON of a figure."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def test_the_answer_comes_first_and_every_section_follows(study: StudyRecord, folder: Path) -> None:
    page = Page(folder / "report.html")
    best = study.best
    assert best is not None
    assert best.value is not None
    headline = f"Trial {best.number} is best: {100 * best.value:.2f} % validation accuracy"
    order = [
        headline,
        "measured on 5,000 validation images",
        "Gain over the baseline",
        "Cost in worker time",
        "Saved by pruning",
        "Best configuration",
    ]
    places = [page.text.index(part) for part in order]
    assert places == sorted(places)
    sections = [attrs["id"] for tag, attrs in page.tags if tag == "section"]
    figures = ["history", "curves", "survival", "importances", "parallel", "slices", "contours", "time", "gantt-1"]
    assert sections == ["answer", *figures, "audit", "failures", "trials", "reproduce"]
    assert page.figures.keys() == set(figures)
    assert all(figure["data"] for figure in page.figures.values())
    assert "PED-ANOVA" in page.text
    assert study.info["git_commit"] in page.text


def test_the_page_needs_no_network(folder: Path) -> None:
    page = Page(folder / "report.html")
    assert not [tag for tag, attrs in page.tags if tag == "script" and "src" in attrs]
    links = [attrs.get("href") for tag, attrs in page.tags if tag in ("a", "link")]
    assert all(link and link.startswith(("#", "data:")) for link in links)
    (policy,) = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_markdown_has_the_same_sections_and_a_picture_of_each_figure(study: StudyRecord, folder: Path) -> None:
    page = Page(folder / "report.html")
    text = (folder / "report.md").read_text(encoding="utf-8")
    pictures = re.findall(rf"\]\({IMAGES}/(.+?)\.png\)", text)
    assert set(pictures) == page.figures.keys()
    for name in pictures:
        assert (folder / IMAGES / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    rows = [line for line in text.splitlines() if re.match(r"\| \d+ \| [\d.–]+ \| (complete|pruned|failed)", line)]
    assert len(rows) == len(study.trials)
    assert len({line.count("|") for line in rows}) == 1


def test_html_and_markdown_say_the_same(study: StudyRecord, folder: Path) -> None:
    """Headline, state, cards, a caption, the remarks of the audit, and the purposes of the commands."""
    page = Page(folder / "report.html").text
    markdown = " ".join((folder / "report.md").read_text(encoding="utf-8").replace("\\", "").split())
    figure = survival_plot([study])
    assert isinstance(figure, Plot)
    texts = [headline(answer(study)), state(study), figure.caption, *audit_section(study).remarks]
    texts += [text for card in cards(answer(study)) for text in (card.label, card.value, card.note)]
    texts += [purpose for purpose, _ in reproduction(study).commands]
    assert len(texts) > 20
    for text in texts:
        assert text in page
        assert text in markdown


def test_the_label_of_the_baseline_is_shown_wherever_the_baseline_is(tmp_path: Path) -> None:
    study = simulated_study(trials=30, baseline={"label": "AdamW, four stages"})
    name = "baseline (AdamW, four stages)"
    page = Page(write_undrawn([study], tmp_path))
    for text in (page.text, (tmp_path / "report.md").read_text(encoding="utf-8")):
        assert f"Gain over the {name}" in text
        assert re.search(rf"points (above|below) the {re.escape(name)}", text)
    for key in ("history", "curves", "parallel"):
        assert any(name in text for text in strings(page.figures[key]))


def variants(study: StudyRecord) -> dict[str, tuple[StudyRecord, str]]:
    """Unusual studies, each with a sentence that its page must contain."""
    crash = Outcome(Ending.FAILED, "DataError: no images\nTraceback")

    def failed(trial: TrialRecord) -> TrialRecord:
        return dataclasses.replace(trial, epochs=(), rungs=(), outcome=crash)

    def running(trial: TrialRecord) -> TrialRecord:
        return dataclasses.replace(trial, outcome=None, finished=None, epochs=trial.epochs[:1], rungs=())

    some = study.trials[:5]
    return {
        "zero": (dataclasses.replace(study, trials=(), sessions=()), "No trial has started yet."),
        "one": (dataclasses.replace(study, trials=some[:1]), "It is the baseline and the only complete trial."),
        "waiting": (dataclasses.replace(study, trials=(TrialRecord(0),)), "No trial is complete yet"),
        "failed": (
            dataclasses.replace(study, trials=tuple(map(failed, some))),
            "all 5 trials failed. The reason of the first: DataError: no images",
        ),
        "running": (dataclasses.replace(study, trials=tuple(map(running, some))), "Not finished: 5 running"),
        "bare": (dataclasses.replace(study, info={}), "the number of validation images is not recorded"),
    }


@pytest.mark.parametrize("kind", ["zero", "one", "waiting", "failed", "running", "bare"])
def test_empty_failed_and_unfinished_studies_give_a_sensible_page(
    kind: str, study: StudyRecord, tmp_path: Path
) -> None:
    edge, said = variants(study)[kind]
    page = Page(write_report([edge], tmp_path))
    assert said in page.text
    assert all(figure["data"] for figure in page.figures.values())
    if kind == "zero":
        assert page.figures == {}
        assert "Figures without data" in page.text


def test_a_trainer_that_reports_only_accuracy_gets_a_whole_report(tmp_path: Path) -> None:
    """It reports no stages and no seconds, so the times come from the moments at which epochs were recorded."""
    full = simulated_study(trials=12)
    bare = tuple(
        dataclasses.replace(
            trial,
            epochs=tuple(
                dataclasses.replace(epoch, metrics=EpochMetrics(epoch=number, val_accuracy=epoch.metrics.val_accuracy))
                for number, epoch in enumerate(trial.epochs, 1)
            ),
        )
        for trial in full.trials
    )
    page = Page(write_report([dataclasses.replace(full, trials=bare)], tmp_path))
    assert "progressive stages" not in page.text
    assert {trace["name"] for trace in page.figures["time"]["data"]} >= {"training", "start-up"}


def test_a_report_of_another_trainer_names_that_trainer_and_no_network_data_or_retraining(tmp_path: Path) -> None:
    """The settings of network and data are not read by it, so their defaults say nothing of the study."""
    spec = study_spec().model_copy(update={"trainer": "mine.curves:train", "description": "Curves."})
    study = dataclasses.replace(simulated_study(trials=12), spec=spec, info={})
    text = Page(write_undrawn([study], tmp_path)).text
    assert "mine.curves:train, 32 epochs per full training; 12 trials" in text
    assert "hpo retrain, which measures it, does not support mine.curves:train" in text
    said = text.partition("Specification with all defaults")[0]
    for wrong in ("efficientnet", "cifar10,", "on cifar10", "retrain best.yaml", "after retraining"):
        assert wrong not in said


def test_a_report_of_searched_networks_names_all_of_them() -> None:
    space = {"model.name": {"type": "categorical", "choices": ["resnet18", "resnet34"]}}
    study = dataclasses.replace(simulated_study(trials=2), spec=study_spec(space=space, enqueue=[]))
    assert state(study).startswith("resnet18 or resnet34 on cifar10, 32 epochs per full training")


def test_several_studies_share_axes(study: StudyRecord, tmp_path: Path) -> None:
    other = simulated_study("wider", trials=30, seed=3, lift=-0.01)
    page = Page(write_report([study, other], tmp_path))
    assert "Comparison of studies" in page.text
    assert "cifar10 is ahead of wider by" in page.text
    names = {trace["name"] for trace in page.figures["history"]["data"]}
    assert {"cifar10", "wider", "cifar10: best so far", "wider: best so far"} <= names
    assert {"gantt-1", "gantt-2"} <= page.figures.keys()
    assert {"cifar10: complete", "wider: complete"} <= {t["name"] for t in page.figures["curves"]["data"]}


def test_a_comparison_of_different_spaces_and_data_says_what_cannot_be_compared(
    study: StudyRecord, tmp_path: Path
) -> None:
    spec = study_spec("alien", space={"train.momentum": {"type": "float", "low": 0.5, "high": 0.9}}, enqueue=[])
    spec = spec.model_copy(update={"data": dataclasses.replace(spec.data, name="cifar100")})
    trials = tuple(dataclasses.replace(trial, values={"train.momentum": 0.7}) for trial in study.trials[:9])
    page = Page(write_undrawn([study, dataclasses.replace(study, name="alien", spec=spec, trials=trials)], tmp_path))
    assert "no searched parameter in common" in page.text
    assert "different data (cifar10, cifar100), so their accuracies cannot be compared" in page.text


def test_hostile_texts_stay_texts(study: StudyRecord, tmp_path: Path) -> None:
    """Names, reasons, choices, hosts and provenance may come from somebody whom the reader does not know."""
    space = {"train.optimizer": {"type": "categorical", "choices": ["adamw", HOSTILE]}}
    spec = study_spec(space=space, enqueue=[], description=HOSTILE)
    outcome = Outcome(Ending.FAILED, f"{HOSTILE}\n{HOSTILE}")
    trials = tuple(
        dataclasses.replace(
            trial,
            values={"train.optimizer": HOSTILE if trial.number % 2 else "adamw"},
            attempts=tuple(dataclasses.replace(one, host=HOSTILE) for one in trial.attempts),
            outcome=outcome if trial.status == "failed" else trial.outcome,
        )
        for trial in study.trials
    )
    info = {**study.info, "host": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    hostile = StudyRecord(HOSTILE, spec, info, trials, study.sessions)
    page = Page(write_report([hostile, hostile], tmp_path))
    tags = [tag for tag, _ in page.tags]
    assert "img" not in tags
    assert tags.count("script") == 3
    assert "<script>alert(1)</script>" in page.text
    for text in strings(page.figures):
        assert "<script" not in text
        assert "<img" not in text
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    outside = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    assert "<img" not in outside
    assert "<script" not in outside
    assert re.search(r"(?<!\\)\]\(javascript", outside) is None


def test_passwords_are_masked_everywhere(study: StudyRecord, tmp_path: Path) -> None:
    secret = "postgresql://user:hunter2@db.example/optuna"  # the password must not appear
    spec = study_spec(storage={"ledger": secret}, description=f"kept in {secret}")
    outcome = Outcome(Ending.FAILED, f"{secret}\n{secret}")
    trials = tuple(
        dataclasses.replace(
            trial,
            outcome=outcome if trial.status == "failed" else trial.outcome,
            attempts=tuple(dataclasses.replace(one, lost=secret if one.lost else None) for one in trial.attempts),
        )
        for trial in study.trials
    )
    write_undrawn([dataclasses.replace(study, spec=spec, trials=trials)], tmp_path)
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "user:***@db.example" in text
        assert "hunter2" not in text


def test_five_thousand_trials_stay_below_fifteen_megabytes(tmp_path: Path) -> None:
    part = simulated_study(trials=250, workers=16)
    length = part.sessions[0][1] - BEGIN
    trials = [
        dataclasses.replace(
            trial,
            number=turn * 250 + trial.number,
            enqueued=trial.enqueued and not turn,
            control=trial.control and not turn,
            finished=(trial.finished or 0.0) + turn * length,
            attempts=tuple(dataclasses.replace(one, started=one.started + turn * length) for one in trial.attempts),
            epochs=tuple(dataclasses.replace(one, recorded=one.recorded + turn * length) for one in trial.epochs),
        )
        for turn in range(20)
        for trial in part.trials
    ]
    large = dataclasses.replace(part, trials=tuple(trials), sessions=((BEGIN, BEGIN + 20 * length),))
    path = write_undrawn([large], tmp_path)
    assert path.stat().st_size < 15e6
    page = Page(path)
    assert sum(tag == "tr" and "data-status" in attrs for tag, attrs in page.tags) == 1_000
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == 1 + 5_000
    assert "The figure shows 400 of" in page.text


def test_a_report_of_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one study"):
        write_report([], tmp_path)


def test_texts_are_escaped_for_markdown() -> None:
    assert escape_markdown("a|b\n<i> *x* `y`") == r"a\|b &lt;i&gt; \*x\* \`y\`"
    assert fenced("```\n````", "yaml").splitlines()[0] == "`````yaml"
