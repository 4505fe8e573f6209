"""A small specification that is valid, and what is wrong with others."""

from __future__ import annotations

import textwrap

import pytest

from hpo.validation.loader import parse_spec
from hpo.validation.problems import Problem, SpecificationError

TRAINER = "trainer: tests.synthetic:train"  # spares the look-up of the model, which imports timm
GOOD = f"""\
study: small
{TRAINER}
space:
  train.lr: {{type: float, low: 1e-4, high: 1e-2, log: true}}
"""


def problems(text: str, overrides: tuple[str, ...] = ()) -> list[Problem]:
    """All problems of a faulty specification."""
    with pytest.raises(SpecificationError) as caught:
        parse_spec(textwrap.dedent(text), "study.yaml", overrides)
    return list(caught.value.problems)


def only(text: str, overrides: tuple[str, ...] = ()) -> Problem:
    """The only problem of a faulty specification."""
    reported = problems(text, overrides)
    assert len(reported) == 1, reported
    return reported[0]
