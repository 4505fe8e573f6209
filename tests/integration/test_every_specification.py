"""A valid specification trains: studies drawn at random, from their YAML text through `hpo validate`'s checks to a
checkpoint that another process could continue from.

`python -m tests.integration.test_every_specification 3000 1` tries 3,000 others and lists how they end.
The test itself takes 80, or as many as HPO_TEST_SPECIFICATIONS says.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import attrgetter
from pathlib import Path

import numpy as np
import optuna
import pytest

from hpo.search.samplers import draw, study_sampler
from hpo.spec.configure import configure
from hpo.spec.study import Spec
from hpo.validation.loader import parse_spec
from hpo.validation.problems import SpecificationError
from hpo.validation.settings import searchable, settings
from tests.support import generated_specifications
from tests.support.training import context
from trainers import finetune
from trainers.api import Diverged, TrialConfig
from trainers.measure import cost

SPECIFICATIONS, SEED = int(os.environ.get("HPO_TEST_SPECIFICATIONS", "80")), 30
"""With most other seeds it takes more specifications until each setting has been searched."""
MEASURED = 20
"""One of so many trainings is also measured, as `hpo run --dry-run` does."""
TRAINED, DIVERGED = "trained", "Diverged"


def valid_specifications(seed: int, refused: Counter[str]) -> Iterator[tuple[int, Spec]]:
    """Without end: the number of each specification that `hpo validate` accepts; counts the others by setting."""
    number = -1
    while True:
        number += 1
        drawn = generated_specifications.specification(np.random.default_rng((seed, number)))
        try:
            yield number, parse_spec(json.dumps(drawn), "generated")  # JSON is YAML
        except SpecificationError as error:
            refused[error.problems[0].path] += 1


def outcome(number: int, spec: Spec, cache: str, folder: Path) -> str:
    """`trained`, `Diverged`, or what else went wrong."""
    study = optuna.create_study(sampler=study_sampler(spec))
    values, _ = draw(study.ask(), spec.space)
    try:
        config = configure(spec.base(), values)
        if number % MEASURED == 0:
            cost.measure(config, context(cache, folder / "measured"))
        train(config, cache, folder)
    except Diverged:
        return DIVERGED
    except Exception as error:  # noqa: BLE001 - the test shows all faults at once
        return f"specification {number}: {error!r}"
    return TRAINED


def train(config: TrialConfig, cache: str, folder: Path) -> None:
    """Train and evaluate one epoch, save it, load it and train the rest."""
    first = next(finetune.train(config, context(cache, folder)))
    assert first.epoch == 1
    rest = list(finetune.train(config, context(cache, folder)))
    epochs = config.train.epochs
    saved = config.train.checkpoint_every == 1 or epochs == 1
    assert [metrics.epoch for metrics in rest] == list(range(1, epochs + 1))
    assert rest[-1].checkpoint is not None
    if saved:
        assert (rest[0].val_accuracy, rest[0].val_loss) == (first.val_accuracy, first.val_loss)


def tally(specifications: Iterable[tuple[int, Spec]], cache: str) -> Counter[str]:
    """How these specifications ended."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ends: Counter[str] = Counter()
    for number, spec in specifications:
        with tempfile.TemporaryDirectory() as folder:
            ends[outcome(number, spec, cache, Path(folder))] += 1
    return ends


@pytest.fixture(scope="module")
def sample() -> list[tuple[int, Spec]]:
    """The specifications of the tests."""
    return list(islice(valid_specifications(SEED, Counter()), SPECIFICATIONS))


def test_the_sample_searches_every_setting_and_draws_every_value(sample: list[tuple[int, Spec]]) -> None:
    """So it is large enough."""
    specs = [spec for _, spec in sample]
    assert {name for spec in specs for name in spec.space} == set(searchable())
    bases = [spec.base() for spec in specs]
    for name in settings():
        values = {attrgetter(name)(base) for base in bases}
        assert values >= set(generated_specifications.QUICK.get(name, ())), name
        assert len(values) > 1 or len(generated_specifications.QUICK.get(name, ())) == 1, name


def test_every_valid_specification_trains_or_says_why_not(sample: list[tuple[int, Spec]], cache: str) -> None:
    """Divergence alone cannot be foreseen."""
    ends = tally(sample, cache)
    print(f"{len(sample)} valid specifications ended so: {dict(ends)}")
    assert ends.keys() <= {TRAINED, DIVERGED}
    assert ends[DIVERGED] <= 0.1 * len(sample)


if __name__ == "__main__":
    started = time.monotonic()
    others: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as shared:
        ended = tally(islice(valid_specifications(int(sys.argv[2]), others), int(sys.argv[1])), shared)
    for counts in (ended, others):
        print(*(f"{number:5} {kind}" for kind, number in counts.most_common()), sep="\n", end="\n\n")
    print(f"{time.monotonic() - started:.0f} s")
