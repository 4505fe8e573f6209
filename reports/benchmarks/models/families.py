"""One small member of a family of timm, checked as `hpo validate` checks it and trained for one step per stage."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass

import timm
import torch

from hpo.spec.study import Spec
from hpo.validation.loader import parse_spec
from hpo.validation.problems import SpecificationError
from trainers import finetune
from trainers.api import Context
from trainers.checkpoint import DirectoryStore
from trainers.network.architecture import has_stochastic_depth

SIZES = (64, 96)
"""Image sizes of the two stages, pixels; the second is also that of the evaluation."""
TRAINED, ONE_SIZE, REFUSED = "trains at both sizes", "trains at one size", "refused"
UNTRIED = "not tried"

STUDY = """\
study: family
data: {{name: shapes, train_limit: 10, validation_limit: 10}}
model: {{name: {name}, pretrained: false, drop_path: {drop_path}}}
train:
  epochs: {stages}
  batch_size: 10
  optimizer: sgd
  momentum: 0.0
  progressive: {{stages: {stages}, size: {{start: {sizes[0]}, end: {sizes[1]}}}}}
space:
  train.weight_decay: {{type: float, low: 0.0, high: 0.1}}
"""


@dataclass(frozen=True, order=True)
class Family:
    """What became of a family."""

    module: str
    """The module of timm."""
    model: str
    """The tried member: the one with the fewest parameters."""
    parameters: int
    outcome: str
    reason: str
    """The first sentence of the refusal; empty if it trained at both sizes."""


@functools.cache
def smallest(module: str) -> tuple[str, int]:
    """Return the classifier of a module that has the fewest parameters with ten classes, and their number."""
    counts: dict[str, int] = {}
    with torch.device("meta"):
        for name in timm.list_models(module=module):
            net = timm.create_model(name, num_classes=10)
            counts[name] = sum(parameter.numel() for parameter in net.parameters())
    return min(counts.items(), key=lambda item: (not _is_classifier(item[0]), item[1]))


def _is_classifier(name: str) -> bool:
    with torch.device("meta"):
        return hasattr(timm.create_model(name), "get_classifier")


def examine(name: str) -> tuple[str, str]:
    """Return (outcome, reason): validate a study of the model with two sizes, or else with one, and train it."""
    reason = ""
    for stages, outcome in ((2, TRAINED), (1, ONE_SIZE)):
        try:
            spec = study(name, stages)
        except SpecificationError as error:
            reason = reason or error.problems[0].rule.partition(";")[0]
        else:
            train(spec)
            return outcome, reason
    return REFUSED, reason


def study(name: str, stages: int) -> Spec:
    """Return the study of a model. Raises SpecificationError if `hpo validate` refuses it."""
    drop_path = 0.1 if has_stochastic_depth(name) else 0
    return parse_spec(STUDY.format(name=name, stages=stages, sizes=SIZES, drop_path=drop_path), name)


def train(spec: Spec) -> None:
    """Train the baseline: in each stage one step on all images, an evaluation and a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        context = Context(seed=0, checkpoints=DirectoryStore(folder), cache_dir=_images().name)
        assert len(list(finetune.train(spec.base(), context))) == spec.train.epochs


@functools.lru_cache(maxsize=1)
def _images() -> tempfile.TemporaryDirectory[str]:
    """A folder for the generated images, which all trainings of the process share."""
    return tempfile.TemporaryDirectory()
