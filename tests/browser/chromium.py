"""Debian's Chromium, headless and without a network but this machine's, and MLflow's UI to look at with it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hpo.home import Home
from tests.conftest import REPOSITORY

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1280,900",
    "--proxy-server=127.0.0.1:9",  # the discard port: whatever asks for the network fails
)
LIMIT_S = 120
"""How long a page may take on a busy machine."""


def missing() -> str | None:
    """What is to be installed before there is a browser."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed"
    if not _chromium() or not shutil.which("chromedriver"):
        return "needs Debian's packages chromium and chromium-driver"
    return None


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def chromium() -> Iterator[Any]:
    """A WebDriver with a profile of its own, which nothing survives."""
    from selenium import webdriver

    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(_chromium())
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        window = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        window.set_script_timeout(60)
        try:
            yield window
        finally:
            window.quit()


@contextmanager
def mlflow_ui(home: Home, study: str) -> Iterator[str]:
    """The address of the study's page in the UI that `hpo ui` starts."""
    command = [sys.executable, "-m", "hpo", "ui", "--port", "0", study, "--home", str(home.path)]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError(f"hpo ui ended with code {process.wait()}")
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def wait(window: Any, condition: Callable[[Any], object], what: str) -> Any:
    """What the condition gives once it is true. React draws when it likes and replaces elements as it does."""
    from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
    from selenium.webdriver.support.ui import WebDriverWait

    waiting = WebDriverWait(window, LIMIT_S, ignored_exceptions=[StaleElementReferenceException])
    try:
        return waiting.until(condition)
    except TimeoutException as error:
        raise AssertionError(f"{what} did not come; the page says:\n{text(window)[:3000]}") from error


def text(window: Any) -> str:
    """All words on the page."""
    words: str = window.execute_script("return document.body.innerText")
    return words
