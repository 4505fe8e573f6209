"""A warning of this project is a sentence; one of a library keeps its place in the code."""

from __future__ import annotations

import warnings

import pytest

from hpo.cli.app import _show_own_warnings_as_sentences
from trainers.network.weights import WeightsWarning


def test_people_see_the_text_of_a_warning_and_no_line_of_the_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # restores it after the test
    _show_own_warnings_as_sentences()
    warnings.showwarning(WeightsWarning("the weights fit two models"), WeightsWarning, "weights.py", 7)
    assert capsys.readouterr().err == "warning: the weights fit two models\n"


def test_a_warning_of_a_library_keeps_its_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warnings, "showwarning", lambda message, category, *place: print(message, *place))
    _show_own_warnings_as_sentences()
    warnings.showwarning(DeprecationWarning("old"), DeprecationWarning, "library.py", 7)
    assert capsys.readouterr().out == "old library.py 7\n"
