"""The report on a wide screen and on a phone: what fits, what can be read, what hides nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpo.results.best import leaders
from tests.browser.simulation import simulated_study
from tests.browser.test_report_page import FIGURES, open_report
from tests.support.undrawn_report import write_undrawn
from tests.unit.reports.test_report_of_a_confirmation import baseline_of, confirmed, repeats

WIDE, PHONE = 1280, 390
SMALLEST = 11.0
"""Pixels of the smallest letters."""
OUTSIDE = """
  const inside = (one) => one.getBoundingClientRect().right <= innerWidth + 1;
  return [...document.querySelectorAll("main *")]
    .filter((one) => !one.closest(".scroll") && !inside(one)).map((one) => one.outerHTML.slice(0, 80));"""
"""What reaches over the right edge of the page, without what scrolls."""
COVERED = """
  const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  const seen = [], covered = [];
  for (const plot of document.querySelectorAll(".plot")) {
    const bar = plot.querySelector(".modebar").getBoundingClientRect();
    for (const part of plot.querySelectorAll(".legend, .infolayer text, .xy .plot")) {
      seen.push(plot.dataset.plot);
      if (meet(bar, part.getBoundingClientRect())) covered.push([plot.dataset.plot, part.textContent]);
    }
    if (bar.width < 50 || bar.top < plot.closest("section").getBoundingClientRect().top) covered.push("hidden");
  }
  return [[...new Set(seen)], covered];"""
"""The figures that were looked at, and the legends, texts and marks that a mode bar covers."""
PAPER = {"light": (255, 255, 255), "dark": (21, 23, 28)}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The report of a study with a long name of its baseline, beside one of the same length with few trials."""
    label = "AdamW, four stages, 128 to 300 px, as in the paper"
    study = simulated_study(baseline={"label": label})
    return write_undrawn([study], tmp_path_factory.mktemp("sizes"))


@pytest.fixture(scope="module", params=[WIDE, PHONE], ids=["wide", "phone"])
def page(browser: Any, address: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The browser with the report open on a screen of that width."""
    resize(browser, request.param)
    open_report(browser, address)
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def resize(browser: Any, width: int) -> None:
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 700}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def is_phone(page: Any) -> bool:
    narrow: bool = page.execute_script("return innerWidth < 700")
    return narrow


def test_the_page_itself_never_scrolls_sideways(page: Any) -> None:
    width, view = page.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert width == view if is_phone(page) else width <= view


def test_no_part_of_the_page_reaches_over_its_edge_except_what_scrolls(page: Any) -> None:
    outside = page.execute_script(OUTSIDE)
    assert outside == []


def test_the_mode_bar_covers_no_legend_and_no_mark(page: Any) -> None:
    assert page.execute_script(COVERED) == [FIGURES, []]


def test_all_letters_can_be_read(page: Any) -> None:
    """Also those that a figure draws: their size as drawn, with every scaling."""
    small = page.execute_script(
        """
        const size = (one) => parseFloat(getComputedStyle(one).fontSize);
        const drawn = (one) => size(one) * Math.hypot(one.getScreenCTM().a, one.getScreenCTM().b);
        const words = [...document.querySelectorAll("main *")].filter((one) => !one.closest(".plot"))
          .filter((one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
        const texts = [...document.querySelectorAll(".plot text")].filter((one) => one.textContent.trim());
        return [...words.map((one) => [size(one), one.textContent.slice(0, 40)]),
          ...texts.map((one) => [drawn(one), one.textContent.slice(0, 40)])]
          .filter(([pixels]) => pixels < arguments[0] - 0.01).concat([[words.length, texts.length]]);""",
        SMALLEST,
    )
    *small, (words, texts) = small
    assert small == []
    assert min(words, texts) > 100


def test_no_text_of_a_figure_is_cut_off(page: Any) -> None:
    cut = page.execute_script("""
        const cut = [], texts = ".legend text, [class$=title], .xtick text, .ytick text, .annotation text";
        for (const plot of document.querySelectorAll(".plot")) {
          const frame = plot.querySelector(".main-svg").getBoundingClientRect();
          for (const text of plot.querySelectorAll(texts)) {
            const box = text.getBoundingClientRect();
            const over = box.left < frame.left - 1 || box.right > frame.right + 1;
            if (box.width && over) cut.push([plot.dataset.plot, text.textContent]);
          }
        }
        return cut;""")
    assert cut == []


def test_panels_lie_below_each_other_on_a_phone_and_beside_each_other_on_a_wide_screen(page: Any) -> None:
    for key in ("history", "slices", "contours"):
        places = page.execute_script(
            "return [...document.querySelectorAll(`.plot[data-plot='${arguments[0]}'] text[class^=x][class$=title]`)]"
            ".map(one => one.getBoundingClientRect().top)",
            key,
        )
        assert len(places) >= 2
        rows = {round(place / 20) for place in places}
        assert (len(rows) == len(places)) is is_phone(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pruned_curves_stand_out_from_the_page(page: Any, scheme: str) -> None:
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    paper = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert tuple(map(int, re.findall(r"\d+", paper)[:3])) == PAPER[scheme]
    drawn = page.execute_script("""
        const plot = document.querySelector(".plot[data-plot='curves']");
        const place = plot.data.findIndex((trace) => trace.name === "pruned" && trace.mode === "lines");
        const trace = plot.querySelectorAll(".scatterlayer .trace")[place];
        const line = getComputedStyle(trace.querySelector("path.js-line"));
        return [line.stroke, line.strokeOpacity * getComputedStyle(trace).opacity, line.strokeWidth];""")
    assert contrast(drawn[0], float(drawn[1]), PAPER[scheme]) >= 3
    assert float(drawn[2].removesuffix("px")) >= 1
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def contrast(color: str, opacity: float, paper: tuple[int, int, int]) -> float:
    """The contrast of a colour that lies on the page, by WCAG 2.2."""
    channels = [float(part) for part in re.findall(r"[\d.]+", color)[:3]]
    mixed = [opacity * channel + (1 - opacity) * below for channel, below in zip(channels, paper, strict=True)]
    lighter, darker = sorted((luminance(mixed), luminance(list(paper))), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(channels: list[float]) -> float:
    shares = [channel / 255 for channel in channels]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_what_scrolls_says_so_and_what_fits_does_not(page: Any) -> None:
    wrong = page.execute_script("""
        const says = (box) => getComputedStyle(box, "::before").content.includes("Scroll sideways");
        const wide = (box) => box.scrollWidth > box.clientWidth + 1;
        return [...document.querySelectorAll(".scroll")].filter((box) => says(box) !== wide(box))
          .map((box) => box.textContent.slice(0, 60));""")
    assert wrong == []
    scrolling = page.execute_script("return document.querySelectorAll('.scrolls').length")
    assert scrolling >= 2 if is_phone(page) else scrolling <= 1


def test_the_accuracy_of_a_trial_is_on_the_screen_before_anything_scrolls(page: Any) -> None:
    edges = page.execute_script(
        "return [...document.querySelectorAll('#table th')].slice(0, 2)"
        ".map(head => [head.dataset.name, head.getBoundingClientRect().right <= innerWidth])"
    )
    assert edges == [["trial", True], ["val acc (%)", True]]


def test_a_comparison_with_a_confirmation_fits_a_phone_and_follows_its_turning(browser: Any, tmp_path: Path) -> None:
    study = simulated_study(trials=30)
    own = repeats(leaders(study, 1)[0], (0.98, 0.981, 0.982))
    found = confirmed(study, own, repeats(baseline_of(study), (0.9, 0.901, 0.902), baseline=True))
    resize(browser, PHONE)
    open_report(browser, write_undrawn([found, simulated_study("a_much_longer_name_of_a_study", trials=20)], tmp_path))
    fits = "return [document.documentElement.scrollWidth === innerWidth, document.documentElement.scrollWidth]"
    from selenium.webdriver.support.ui import WebDriverWait

    stacked = "return new Set(document.querySelector('.plot[data-plot=history]').layout.xaxis.domain).has(1)"
    assert browser.execute_script(fits) == [True, PHONE]
    assert browser.execute_script(OUTSIDE) == []
    assert browser.execute_script(COVERED)[1] == []
    assert browser.execute_script(stacked)
    resize(browser, 844)
    WebDriverWait(browser, 30).until(lambda window: not window.execute_script(stacked))
    assert browser.execute_script(fits)[1] <= 844
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
