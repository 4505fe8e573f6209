"""What the page on models says of timm's families is true of the installed timm."""

from __future__ import annotations

import pytest
import timm
from timm.models import is_model_in_modules

from reports.benchmarks.models import page
from reports.benchmarks.models.families import ONE_SIZE, REFUSED, TRAINED, UNTRIED, examine

FAMILIES = {family.module: family for family in page.read()}
CHEAP = [
    "byobnet",
    "convit",
    "convnext",
    "cspnext",
    "efficientvit_mit",
    "ghostnet",
    "lcnetv2",
    "mobilenetv3",
    "nfnet",
    "pit",
    "pvt_v2",
    "regnet",
    "repvit",
    "resnet",
    "starnet",
    "vision_transformer",
    "vision_transformer_relpos",
    "vovnet",
]
"""Families whose small members train within a second or two: convolutions, transformers, and both outcomes."""


def test_every_family_of_timm_is_on_the_page() -> None:
    assert FAMILIES.keys() == set(timm.list_modules())
    for family in FAMILIES.values():
        assert is_model_in_modules(family.model, [family.module])
        assert family.outcome in (TRAINED, ONE_SIZE, REFUSED, UNTRIED)
        assert (family.reason == "") == (family.outcome in (TRAINED, UNTRIED))


def test_the_page_shows_the_record() -> None:
    written = page.PAGE.read_text(encoding="utf-8")
    assert written == page.render(list(FAMILIES.values())), "write it anew: python -m reports.benchmarks.models"


@pytest.mark.parametrize("module", CHEAP)
def test_a_small_member_of_a_family_trains_as_the_page_says(module: str) -> None:
    family = FAMILIES[module]
    assert family.outcome != REFUSED
    assert examine(family.model) == (family.outcome, family.reason)


@pytest.mark.parametrize("module", [module for module, family in FAMILIES.items() if family.outcome == REFUSED])
def test_a_family_that_cannot_be_trained_is_refused_with_the_reason_of_the_page(module: str) -> None:
    family = FAMILIES[module]
    assert examine(family.model) == (REFUSED, family.reason)
