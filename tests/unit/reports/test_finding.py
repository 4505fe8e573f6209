"""The first lines of a report: what was found, whether it is real, and the command to type next."""

from __future__ import annotations

import dataclasses

import pytest

from hpo.ledger.records import StudyRecord
from hpo.results.best import leaders
from reports.analysis.answer import answer
from reports.page.finding import MOST_VALUES, Finding, brief, finding
from tests.browser.simulation import simulated_study
from tests.unit.reports.test_report_of_a_confirmation import baseline_of, confirmed, repeats

LOW, HIGH = (0.900, 0.901, 0.902), (0.980, 0.981, 0.982)


@pytest.fixture(scope="module")
def study() -> StudyRecord:
    return simulated_study(trials=30, budget={"trials": 30})


def judge(study: StudyRecord) -> Finding:
    return finding(answer(study), " --home /h")


def after(study: StudyRecord, best: tuple[float | None, ...], baseline: tuple[float | None, ...]) -> Finding:
    """What is found after a confirmation with these accuracies of the best trial and of the baseline."""
    own = repeats(leaders(study, 1)[0], best)
    return judge(confirmed(study, own, repeats(baseline_of(study), baseline, baseline=True)))


def test_the_result_of_a_search_alone_is_not_confirmed_and_the_next_step_confirms_it(study):
    found = judge(study)
    assert found.verdict == "not confirmed"
    assert "each trial was trained once" in found.why
    assert found.advice == "Rule out luck: retrain with new seeds: hpo confirm cifar10 --home /h"
    assert "lr = " in found.configuration
    assert found.configuration.count(" = ") <= MOST_VALUES


def test_a_gain_whose_interval_excludes_zero_is_clear_and_the_next_step_uses_the_result(study):
    found = after(study, HIGH, LOW)
    assert found.verdict == "clear"
    assert found.judged.startswith("Clear: +8.00 points (95 % interval +")
    assert "from 3 new seeds" in found.why
    assert found.step is not None
    assert found.step.command == "hpo export cifar10 --home /h -o best.yaml"


def test_a_gain_whose_interval_includes_zero_is_within_noise_and_the_next_step_takes_more_seeds(study):
    found = after(study, (0.90, 0.93, 0.96), (0.95, 0.90, 0.92))
    assert found.verdict == "within noise"
    assert found.step is not None
    assert found.step.command == "hpo confirm cifar10 --home /h --seeds 6"


def test_a_confirmed_baseline_is_within_noise(study):
    found = after(study, LOW, HIGH)
    assert found.verdict == "within noise"
    assert "nothing is better than the baseline by more than chance" in found.why


@pytest.mark.parametrize(
    ("best", "baseline", "why", "command"),
    [
        (HIGH[:2], LOW[:2], "an interval needs 3 seeds", "hpo confirm cifar10 --home /h --seeds 4"),
        ((0.9, None), (0.9, None), "every configuration failed", "hpo confirm cifar10 --home /h"),
    ],
)
def test_a_confirmation_that_says_too_little_is_not_called_one(study, best, baseline, why, command):
    found = after(study, best, baseline)
    assert found.verdict == "not confirmed"
    assert why in found.why
    assert found.step is not None
    assert found.step.command == command


def test_an_unfinished_confirmation_is_continued(study):
    group = repeats(leaders(study, 1)[0], HIGH)
    waiting = dataclasses.replace(group[2], outcome=None, epochs=())
    found = judge(confirmed(study, [*group[:2], waiting]))
    assert (found.verdict, found.why) == ("not confirmed", "2 of 3 trainings of the confirmation have ended.")
    assert found.step is not None
    assert found.step.command == "hpo confirm cifar10 --home /h"


def test_without_a_baseline_the_other_configurations_decide(study):
    first, second = leaders(study, 2)
    assert judge(confirmed(study, repeats(first, HIGH), repeats(second, LOW))).verdict == "clear"
    close = judge(confirmed(study, repeats(first, (0.95, 0.96, 0.94)), repeats(second, (0.96, 0.94, 0.945))))
    assert close.verdict == "within noise"
    assert judge(confirmed(study, repeats(first, HIGH))).verdict == "not confirmed"


def test_a_running_study_is_watched_and_an_interrupted_one_is_resumed(study):
    running = dataclasses.replace(study, driver="open")
    assert judge(running).advice.endswith("hpo status cifar10 --home /h --watch")
    interrupted = dataclasses.replace(study, trials=study.trials[:12])
    assert judge(interrupted).advice.endswith("hpo resume cifar10 --home /h")


def test_a_study_without_a_complete_trial_has_no_verdict(study):
    found = judge(dataclasses.replace(study, trials=()))
    assert (found.verdict, found.judged, found.configuration) == (None, "", "")
    assert found.advice.endswith("hpo resume cifar10 --home /h")


def test_the_terminal_shows_the_finding_in_three_lines_and_compares_several_studies_first(study):
    lines = list(brief([study]))
    assert [line.partition(" ")[0] for line in lines] == ["Trial", "Not", "Next:"]
    compared = list(brief([study, dataclasses.replace(study, name="other")]))
    assert compared[0].startswith("cifar10 is ahead of other") or compared[0].startswith("other is ahead of cifar10")
    assert [line.partition(": ")[0] for line in compared[1:]] == ["cifar10"] * 3 + ["other"] * 3
