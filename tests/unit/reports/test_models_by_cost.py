"""Which model for which budget: the table, the answer in words, its cautions and the figure."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hpo.cli.programs.findings import finding_json
from hpo.home import Home
from hpo.ledger.outcome import Ending, Outcome
from hpo.ledger.records import Attempt, EpochRecord, StudyRecord, TrialRecord
from hpo.spec.study import Spec
from reports.analysis.models import candidates, steps
from reports.drawing.plot import Lines, Missing, Plot, Points
from reports.figures.models import model_plot
from reports.page.finding import brief
from reports.page.models import Models, models_section
from reports.page.render import draw
from tests.support.undrawn_report import write_undrawn
from trainers.api import EpochMetrics

LITE, B0, DENSE = "tf_efficientnet_lite0.in1k", "tf_efficientnetv2_b0.in1k", "densenet121.ra_in1k"
MACS = {LITE: 31_000_000, B0: 60_500_000, DENSE: 231_000_000}
SPEC = Spec.model_validate(
    {
        "study": "models",
        "train": {"epochs": 2, "progressive": {"stages": 1, "size": {"end": 64}}},
        "space": {
            "model.name": {"type": "categorical", "choices": [LITE, B0, DENSE]},
            "train.lr": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        },
        "budget": {"trials": 10},
    }
)


def trial(number: int, model: str | None, score: float, seconds: float = 10.0, **fields: object) -> TrialRecord:
    """A complete trial whose two epochs take as many seconds each."""
    epochs = tuple(
        EpochRecord(
            EpochMetrics(
                epoch=epoch,
                val_accuracy=score - 0.1 * (2 - epoch),
                seconds=seconds,
                params=4_000_000,
                macs=MACS[model or LITE],
            ),
            1000.0 + seconds * epoch,
        )
        for epoch in (1, 2)
    )
    record = TrialRecord(
        number,
        values={"train.lr": 1e-3, **({"model.name": model} if model else {})},
        attempts=(Attempt(1000.0, host="node", device="cpu"),),
        epochs=epochs,
        outcome=Outcome(Ending.COMPLETE, ""),
        finished=1100.0,
    )
    return dataclasses.replace(record, **fields)  # type: ignore[arg-type]


def pruned(number: int, model: str) -> TrialRecord:
    whole = trial(number, model, 0.9)
    return dataclasses.replace(whole, epochs=whole.epochs[:1], outcome=Outcome(Ending.PRUNED, ""))


def study(*trials: TrialRecord, spec: Spec = SPEC, images: int | None = 1000) -> StudyRecord:
    info = {"created": 1000.0, "data": {"validation_count": images} if images else {}}
    return StudyRecord("models", spec, info, trials, ((1000.0, 1200.0),))


def section(record: StudyRecord) -> Models:
    found = models_section(record)
    assert found is not None
    return found


THREE = study(trial(0, LITE, 0.70, 8.0), trial(1, B0, 0.80, 12.0), trial(2, DENSE, 0.90, 60.0), pruned(3, DENSE))


def test_each_budget_has_the_best_model_that_it_can_pay() -> None:
    macs, seconds = section(THREE).answers
    assert macs == (
        f"By multiply-accumulates per image: below 60.5 million take {LITE} (70.00 %), which needs 31 million; from "
        f"60.5 million on, {B0} (80.00 %, +10.00 points); from 231 million on, {DENSE} (90.00 %, +10.00 points)."
    )
    assert seconds.startswith(f"By training: below 24 s take {LITE} (70.00 %), which needs 16 s; from 24 s on, {B0}")


def test_a_model_that_is_dearer_and_no_better_is_no_choice() -> None:
    record = study(trial(0, LITE, 0.80, 8.0), trial(1, B0, 0.90, 12.0), trial(2, DENSE, 0.85, 60.0))
    found = section(record)
    assert DENSE not in " ".join(found.answers)
    assert {row[0]: row[-1] for row in found.rows} == {B0: "MACs and seconds", DENSE: "–", LITE: "MACs and seconds"}


def test_the_best_model_that_is_also_the_cheapest_is_for_any_budget() -> None:
    found = section(study(trial(0, LITE, 0.9), trial(1, B0, 0.8)))
    assert found.answers[0].endswith(f"take {LITE} (90.00 %) for any budget; no dearer model is better.")


def test_a_lead_within_noise_is_not_worth_its_cost_and_the_sentence_says_so() -> None:
    close = [trial(0, LITE, 0.80), trial(1, B0, 0.81, 20.0)]
    doubt = f"The lead of {B0} (81.00 %, 60.5 million) over a cheaper model is within noise."
    answer = section(study(*close)).answers[0]
    assert f"take {LITE} (80.00 %) for any budget, which needs 31 million" in answer
    assert answer.endswith(f"no dearer model is clearly better. {doubt}")
    answer = section(study(*close, trial(2, DENSE, 0.90, 60.0))).answers[0]
    assert f"below 231 million take {LITE} (80.00 %), which needs 31 million; from 231 million on, {DENSE}" in answer
    assert answer.endswith(f"(90.00 %, +10.00 points). {doubt}")


def test_where_the_noise_is_unknown_the_sentence_says_so() -> None:
    macs, _ = section(study(trial(0, LITE, 0.80), trial(1, B0, 0.81, 20.0), images=None)).answers
    assert macs.endswith(f"from 60.5 million on, {B0} (81.00 %, +1.00 points, the noise is unknown).")


def test_pruned_trials_do_not_count_and_a_model_without_a_complete_one_is_named() -> None:
    found = section(study(trial(0, LITE, 0.7), trial(1, LITE, 0.6), pruned(2, B0), trial(3, DENSE, 0.8)))
    rows = {row[0]: dict(zip(found.columns, row, strict=True)) for row in found.rows}
    assert (rows[B0]["complete / trials"], rows[B0]["trial"]) == ("0 / 1", "–")
    assert rows[B0]["MACs per image"] == "60.5 million", "what one epoch tells is told"
    assert rows[LITE]["complete / trials"] == "2 / 2"
    assert "1 to 2 of each" in found.cautions[0]
    assert f"Nothing is known of {B0}: no trial of it is complete." in found.cautions
    assert B0 not in " ".join(found.answers)


def test_models_with_other_weights_are_not_compared_without_a_word() -> None:
    weights = {"type": "categorical", "choices": [True, False]}
    spec = SPEC.model_copy(
        update={"space": Spec.model_validate({"study": "s", "space": {"model.pretrained": weights}}).space | SPEC.space}
    )
    mixed = [trial(0, LITE, 0.8), trial(1, B0, 0.5), trial(2, DENSE, 0.4)]
    began = [dataclasses.replace(one, values={**one.values, "model.pretrained": one.number == 0}) for one in mixed]
    (caution,) = [text for text in section(study(*began, spec=spec)).cautions if "weights" in text]
    assert caution.startswith(f"{LITE} began with pretrained weights, {B0} and {DENSE} with random ones.")
    assert "says little of the architectures" in caution


def test_random_weights_alone_are_told_too() -> None:
    model = dataclasses.replace(SPEC.model, pretrained=False)
    found = section(study(*THREE.trials, spec=SPEC.model_copy(update={"model": model})))
    assert any(text.startswith("All models began with random weights.") for text in found.cautions)


def test_seconds_of_two_machines_are_told_apart() -> None:
    other = (Attempt(1000.0, host="other", device="cuda"),)
    found = section(study(trial(0, LITE, 0.8), trial(1, B0, 0.9, attempts=other)))
    assert any("from 2 kinds of workers" in text for text in found.cautions)


def test_seconds_that_other_work_changed_are_called_rough() -> None:
    even = THREE.trials[:3]
    (caution,) = [text for text in section(study(*even, trial(4, LITE, 0.6, 40.0))).cautions if "rough" in text]
    assert caution.startswith("Epochs of one model and one image size took 8 to 40 s")
    assert not any("rough" in text for text in section(study(*even)).cautions), "epochs of other models may be longer"


def test_a_study_of_one_model_has_no_section_and_no_figure() -> None:
    record = study(trial(0, LITE, 0.8), trial(1, LITE, 0.9))
    assert models_section(record) is None
    assert model_plot(record, "models-1") is None
    assert finding_json(record, Home.at(Path("/h")))["models"] is None


def test_a_reference_with_another_model_makes_a_comparison() -> None:
    """The model need not be searched: an enqueued configuration may name another one."""
    spec = SPEC.model_copy(update={"space": {"train.lr": SPEC.space["train.lr"]}})
    fixed = spec.model_copy(update={"model": dataclasses.replace(spec.model, name=LITE)})
    record = study(trial(0, None, 0.8), trial(1, None, 0.9, 20.0, settings={"model.name": B0}), spec=fixed)
    record = dataclasses.replace(
        record, trials=(record.trials[0], dataclasses.replace(record.trials[1], epochs=trial(1, B0, 0.9, 20.0).epochs))
    )
    assert [row.name for row in candidates(record)] == [B0, LITE]
    assert [step.candidate.name for step in steps(record, candidates(record), "macs")] == [LITE, B0]


def test_without_a_complete_trial_there_is_no_answer() -> None:
    record = study(pruned(0, LITE), pruned(1, B0))
    assert section(record).answers == ("No trial is complete, so there is no answer yet.",)
    assert isinstance(model_plot(record, "models-1"), Missing)


def test_the_figure_marks_the_best_of_each_model_and_what_a_budget_can_buy() -> None:
    plot = model_plot(study(*THREE.trials, trial(4, LITE, 0.65)), "models-1")
    assert isinstance(plot, Plot)
    macs, seconds = plot.panels
    front, intervals = [mark for mark in macs.marks if isinstance(mark, Lines)]
    ((x, y),) = front.paths
    assert sorted(round((low + high) / 2) for _, (low, high) in intervals.paths) == [70, 80, 90]
    assert (list(x)[:3], list(y)[:3]) == ([31.0, 60.5, 231.0], [70.0, 80.0, 90.0])
    points = [mark for mark in macs.marks if isinstance(mark, Points)]
    names = ["densenet121", "tf_efficientnet_lite0", "tf_efficientnetv2_b0"]
    assert sorted(mark.name for mark in points if mark.legend) == names, "without the tags, which do not tell apart"
    assert len({(mark.color, mark.symbol) for mark in points if mark.legend}) == 3
    (small,) = [mark for mark in points if not mark.legend]
    assert (small.name, list(small.y)) == ("tf_efficientnet_lite0", [65.0])
    assert [list(mark.x) for mark in seconds.marks if isinstance(mark, Points) and mark.name == "densenet121"] == [
        [120.0]
    ]


def test_page_markdown_terminal_and_json_have_the_answer(tmp_path: Path) -> None:
    answer = section(THREE).answers[0]
    write_undrawn([THREE], tmp_path)
    page, text = ((tmp_path / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    assert "<h2>Which model for your budget</h2>" in page
    assert answer in page
    assert "## Which model for your budget" in text
    assert 'id="models-1"' in page
    assert "(report-figures/models-1.png)" in text
    assert answer in list(brief([THREE]))
    found = finding_json(THREE, Home.at(tmp_path))["models"]
    assert found["answers"][0] == answer
    best = found["models"][0]
    assert (best["model"], best["choice_by"]) == (DENSE, ["macs", "seconds"])


def test_two_studies_have_their_sections_apart() -> None:
    other = dataclasses.replace(THREE, name="second")
    keys = [plot.key for plot in draw([THREE, other]) if isinstance(plot, Plot)]
    assert {"models-1", "models-2"} <= set(keys)


@pytest.mark.parametrize("count", [7, 13])
def test_no_two_of_many_models_look_the_same(count: int) -> None:
    names = [f"resnet{number}" for number in range(count)]
    trials = [trial(number, LITE, 0.5 + number / 100, values={"model.name": name}) for number, name in enumerate(names)]
    plot = model_plot(study(*trials), "models-1")
    assert isinstance(plot, Plot)
    looks = {(mark.color, mark.symbol) for mark in plot.panels[0].marks if isinstance(mark, Points)}
    assert len(looks) == count
