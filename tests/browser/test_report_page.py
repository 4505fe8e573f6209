"""The report in a real browser, from `file://`, with no network."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from hpo.ledger.records import StudyRecord
from tests.browser.simulation import simulated_study
from tests.support.undrawn_report import write_undrawn

FIGURES = ["history", "curves", "survival", "importances", "parallel", "slices", "contours", "time", "gantt-1"]
MARKS = ".plot[data-plot='{}'] :is(.scatterlayer .trace, .barlayer .trace, .contourlayer path, .heatmaplayer image)"


@pytest.fixture(scope="module")
def study() -> StudyRecord:
    return simulated_study()


@pytest.fixture(scope="module")
def page(browser: Any, study: StudyRecord, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The browser with the study's report open and drawn."""
    browser.get_log("browser")
    browser.get_log("performance")
    open_report(browser, write_undrawn([study], tmp_path_factory.mktemp("report")))
    return browser


def open_report(browser: Any, path: Path) -> None:
    """Open a page and wait until its last figure is drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get(path.as_uri())
    drawn = "return document.documentElement.dataset.drawn === 'all'"
    WebDriverWait(browser, 60).until(lambda window: window.execute_script(drawn))


def rows(page: Any) -> list[list[str]]:
    """Texts of the visible rows of the trial table."""
    texts: list[list[str]] = page.execute_script(
        "return [...document.querySelectorAll('#table tbody tr')].filter(row => row.offsetParent !== null)"
        ".map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return texts


def column(page: Any, label: str) -> list[str]:
    """Visible texts of one column of the trial table."""
    labels = page.execute_script("return [...document.querySelectorAll('#table th')].map(head => head.dataset.name)")
    return [row[labels.index(label)] for row in rows(page)]


def choose(page: Any, *, words: str = "", status: str = "") -> None:
    """Type into the filter and choose a status."""
    page.execute_script(
        "for (const [id, value] of [['filter', arguments[0]], ['status', arguments[1]]]) {"
        "const field = document.getElementById(id); field.value = value; field.dispatchEvent(new Event('input')); }",
        words,
        status,
    )


def click(page: Any, label: str) -> str | None:
    """Click the header of a column and return its `aria-sort`."""
    direction: str | None = page.execute_script(
        "const head = [...document.querySelectorAll('#table th')].find(other => other.dataset.name === arguments[0]);"
        "head.firstElementChild.click(); return head.getAttribute('aria-sort')",
        label,
    )
    return direction


def test_the_page_fetches_nothing_and_logs_no_error(page: Any) -> None:
    assert page.get_log("browser") == []
    sent = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    requests = [message["params"] for message in sent if message["method"] == "Network.requestWillBeSent"]
    urls = [request["request"]["url"] for request in requests if request["documentURL"].startswith("file:")]
    assert [url for url in urls if not url.startswith(("file:", "data:", "blob:"))] == []
    assert len(urls) >= 1


def test_the_page_refuses_to_fetch_from_the_network(page: Any) -> None:
    """The policy of the page refuses a request and logs that; otherwise the test above would prove nothing."""
    outcome = page.execute_async_script(
        "const done = arguments[0]; fetch('https://example.com/').then(() => done('fetched'), () => done('refused'))"
    )
    assert outcome == "refused"
    assert any("Content Security Policy" in entry["message"] for entry in page.get_log("browser"))


@pytest.mark.parametrize("key", FIGURES)
def test_every_figure_is_drawn(page: Any, key: str) -> None:
    boxes = page.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map(mark => mark.getBoundingClientRect())"
        ".map(box => [box.width, box.height])",
        MARKS.format(key),
    )
    assert any(width > 3 and height > 3 for width, height in boxes)


def test_no_figure_is_wider_than_the_page(page: Any) -> None:
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_labels_of_one_axis_do_not_overlap(page: Any) -> None:
    overlaps = page.execute_script("""
        const beside = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1;
        const apart = (a, b) => beside(a, b) || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
        const overlaps = [];
        for (const axis of document.querySelectorAll(".plot :is(.xaxislayer-above, .yaxislayer-above)")) {
          const labels = [...axis.querySelectorAll("text")];
          const boxes = labels.map((label) => label.getBoundingClientRect());
          for (let i = 0; i < boxes.length; i++)
            for (let j = 0; j < i; j++)
              if (!apart(boxes[i], boxes[j])) overlaps.push([labels[i].textContent, labels[j].textContent]);
        }
        return [overlaps, document.querySelectorAll(".xtick text, .ytick text").length];""")
    assert overlaps[0] == []
    assert overlaps[1] > 50


def test_a_click_on_a_header_sorts_the_trials(page: Any) -> None:
    choose(page)
    assert click(page, "val acc (%)") == "descending"
    values = column(page, "val acc (%)")
    numbers = [float(value) for value in values if value != "–"]
    assert len(numbers) > 30
    assert numbers == sorted(numbers, reverse=True)
    assert values[len(numbers) :] == ["–"] * (len(values) - len(numbers))
    assert click(page, "val acc (%)") == "ascending"
    assert [float(value) for value in column(page, "val acc (%)") if value != "–"] == sorted(numbers)
    click(page, "optimizer")
    assert column(page, "optimizer") == sorted(column(page, "optimizer"))
    assert click(page, "trial") == "ascending"
    assert column(page, "trial") == [str(number) for number in range(40)]


def test_words_comparisons_and_status_filter_the_trials(page: Any, study: StudyRecord) -> None:
    choose(page, status="pruned")
    assert len(rows(page)) == study.count("pruned")
    choose(page, words="sgd lr<0.001")
    shown = list(zip(column(page, "optimizer"), column(page, "lr"), strict=True))
    wanted = [
        trial
        for trial in study.trials
        if trial.values["train.optimizer"] == "sgd" and float(trial.values["train.lr"] or 0) < 0.001
    ]
    assert len(shown) == len(wanted) > 0
    assert all(name == "sgd" and float(rate) < 0.001 for name, rate in shown)
    count = page.execute_script("return document.getElementById('count').textContent")
    assert count == f"{len(wanted)} of 40 trials"
    choose(page, words="nothing-like-this")
    assert rows(page) == []
    choose(page)
    assert len(rows(page)) == 40


def test_the_figures_follow_light_and_dark(page: Any) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    def lightness(window: Any) -> float:
        color: str = window.execute_script("return getComputedStyle(document.querySelector('.plot .xtick text')).fill")
        return statistics.fmean(int(part) for part in re.findall(r"\d+", color)[:3])

    for scheme, wanted in (("dark", lambda value: value > 180), ("light", lambda value: value < 80)):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        WebDriverWait(page, 30).until(lambda window, wanted=wanted: wanted(lightness(window)))


def test_every_figure_of_a_comparison_is_drawn(browser: Any, study: StudyRecord, tmp_path: Path) -> None:
    browser.get_log("browser")
    open_report(browser, write_undrawn([study, simulated_study("wider", trials=20, seed=3)], tmp_path))
    assert browser.get_log("browser") == []
    for key in [*FIGURES, "gantt-2"]:
        assert browser.execute_script("return document.querySelectorAll(arguments[0]).length", MARKS.format(key)) > 0
    choose(browser, words="study=wider")
    assert len(rows(browser)) == 20
