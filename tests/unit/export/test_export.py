"""The configurations that `hpo export` writes for hpo and for timm, and the trials that it chooses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpo.errors import UsageError
from hpo.export.files import Format, configuration_text
from hpo.export.retrain import lengthened, prepare
from hpo.export.timm import ARGUMENTS, differences, header, randaugment, timm_settings, timm_yaml
from hpo.home import Home
from hpo.ledger.outcome import Ending
from hpo.results.best import leaders, pick, training
from hpo.spec.training import Provenance, Training
from hpo.validation.loader import parse_training
from tests.support.sample_records import busy, study, trial
from tests.support.training import TINY
from trainers.api import Augment, DataConfig, Ema, ModelConfig, Progressive, TrainConfig, TrialConfig

KINDS: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "switch": bool,
    "whole": int,
    "number": (int, float),
    "numbers": list,
}

CONFIGS = {
    "defaults": TrialConfig(model=ModelConfig(name="test_efficientnet")),
    "tiny": dataclasses.replace(TINY, data=DataConfig(name="cifar100")),
    "shapes": TINY,
    "everything": TrialConfig(
        data=DataConfig(train_limit=1000, validation_limit=100),
        model=ModelConfig(name="test_efficientnet", pretrained="weights.pth", drop_path=0.2, bn_momentum=0.1),
        train=TrainConfig(
            epochs=20,
            batch_size=96,
            accumulate=5,
            optimizer="rmsprop",
            schedule="onecycle",
            warmup_epochs=2.5,
            layer_decay=0.75,
            freeze_blocks=2,
            clip_grad=0,
            precision="fp16",
            compile=True,
            eval_size=320,
            lr=1e-5,
            ema=Ema(decay=0.99),
            augment=Augment(crop="resized", cutout=0.2, erase=0.1, cutmix=1.0, flip=False),
            progressive=Progressive(grow_batch=True, reset_batchnorm=True, stages=3),
        ),
    ),
    "muon": TrialConfig(train=TrainConfig(optimizer="muon", batch_size="auto", precision="tf32", schedule="constant")),
}


def exported(config: TrialConfig) -> Training:
    return Training.of(config, Provenance(study="s", trial=3, seed=2**62 + 5), "Trial 3 of study s")


@pytest.mark.parametrize("name", CONFIGS)
def test_every_exported_key_is_an_argument_of_timms_script_with_a_value_of_its_kind(name: str) -> None:
    text = timm_yaml(exported(CONFIGS[name]))
    read: dict[str, Any] = yaml.safe_load(text)  # as the script reads it, for which 1e-05 is text
    assert read == timm_settings(exported(CONFIGS[name]))
    for key, value in read.items():
        assert value is None or isinstance(value, KINDS[ARGUMENTS[key]]), f"{key}: {value!r}"
        assert isinstance(value, bool) == (ARGUMENTS[key] == "switch") or value is None, f"{key}: {value!r}"


def test_a_key_that_timms_script_would_ignore_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ARGUMENTS, "smoothing")
    with pytest.raises(AssertionError, match="smoothing"):
        timm_yaml(exported(CONFIGS["defaults"]))


def test_the_header_lists_every_stage_of_progressive_learning() -> None:
    lines = header(exported(CONFIGS["everything"]))
    start = next(index for index, line in enumerate(lines) if line.lstrip().startswith("epochs"))
    rows = [line.split() for line in lines[start + 1 : start + 4]]
    assert [row[:4] for row in rows] == [
        ["1-6", "128", "5", "0.1"],
        ["7-13", "214", "10", "0.2"],
        ["14-20", "300", "15", "0.3"],
    ]
    assert [int(row[5]) for row in rows] == [527, 188, 96], "the batch is larger while images are small"


EXPECTED_DIFFERENCES = (
    "test split;train_limit;one-cycle;micro-batches;cutout was 0.2;RandAugment;freeze_blocks;320 px;re-estimate;mixup;"
    "warm-up of the weight average follows"
)


def test_the_header_lists_the_settings_that_timm_cannot_reproduce() -> None:
    everything, little = (" ".join(differences(exported(config))) for config in (CONFIGS["everything"], plain()))
    for word in EXPECTED_DIFFERENCES.split(";"):
        assert word in everything
        assert word not in little or word == "test split"


def plain() -> TrialConfig:
    """A configuration that timm can reproduce."""
    return TrialConfig(
        train=TrainConfig(
            precision="bf16",
            augment=Augment(crop="none", randaugment_layers=0),
            progressive=Progressive(stages=1),
        )
    )


def test_only_the_split_is_listed_for_a_configuration_that_timm_can_reproduce() -> None:
    assert len(list(differences(exported(plain())))) == 1


@pytest.mark.parametrize(
    ("magnitude", "layers", "name"),
    [
        (9, 2, "rand-m9-n2-p1.0-mstd0.5-mmax30"),
        (14.6, 3, "rand-m15-n3-p1.0-mstd0.5-mmax30"),
        (4.5, 2, "rand-m5-n2-p1.0-mstd0.5-mmax30"),
        (12.5, 2, "rand-m13-n2-p1.0-mstd0.5-mmax30"),
        (9, 0, None),
    ],
)
def test_randaugment_has_timms_name_and_halves_round_up(magnitude: float, layers: int, name: str | None) -> None:
    published = Augment(randaugment_layers=layers)
    assert randaugment(magnitude, published) == name
    increasing = dataclasses.replace(published, randaugment_form="increasing")
    assert randaugment(magnitude, increasing) == (f"{name}-inc1" if name else None)


def test_an_exported_configuration_reads_back_unchanged() -> None:
    best = training(busy(2))
    assert best.provenance is not None
    assert best.provenance.trial == 1
    assert parse_training(best.to_yaml(), "best.yaml") == best


def test_leaders_are_the_complete_trials_from_the_best_to_the_worst() -> None:
    a, b, c = (trial(number, 16, ending=Ending.COMPLETE) for number in (3, 1, 2))
    tied = dataclasses.replace(trial(9, 16, ending=Ending.COMPLETE), epochs=a.epochs)
    ranked = leaders(study(b, c, a, tied, trial(30, 4, ending=Ending.PRUNED)), 10)
    assert [trial.number for trial in ranked] == [3, 9, 2, 1], "ties go to the earlier trial; pruned trials never lead"
    assert [trial.number for trial in leaders(study(b, c, a), 2)] == [3, 2]
    assert pick(study(b, c, a), None) == ranked[0]


def test_without_a_complete_trial_the_error_names_the_option_for_any_trial() -> None:
    with pytest.raises(UsageError, match="--trial N"):
        leaders(study(trial(0, 4)), 5)
    with pytest.raises(UsageError, match="has no trial 7"):
        pick(study(trial(0, 4)), 7)


def test_a_configuration_of_another_trainer_is_not_written_for_timm() -> None:
    """Its settings of network and data are defaults that the trainer need not have read."""
    training = Training.of(CONFIGS["defaults"], Provenance(study="s", trial=0, trainer="mine:train"))
    with pytest.raises(UsageError, match="--format timm: this configuration was trained by mine:train"):
        configuration_text(training, Format.TIMM)
    assert 'trainer: "mine:train"' in configuration_text(training, Format.HPO)


def test_a_longer_retraining_has_an_average_that_is_as_much_longer() -> None:
    train = TrainConfig(epochs=32, ema=Ema(decay=0.99))
    assert lengthened(train, 128) == ["train.epochs=128", "train.ema.decay=0.9975"]
    assert lengthened(train, 32) == []
    assert lengthened(train, 16) == ["train.epochs=16", "train.ema.decay=0.98"]
    assert lengthened(TrainConfig(epochs=32), 64) == ["train.epochs=64"], "without an average none begins"


def test_a_longer_retraining_is_a_configuration_of_its_own(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "best.yaml"
    file.write_text(Training(description="Trial 3", train=TrainConfig(epochs=4, ema=Ema(decay=0.9))).to_yaml())
    longer = prepare(str(file), ["model.pretrained=false", "train.ema.decay=0.5"], home, None, epochs=8).training
    assert (longer.train.epochs, longer.train.ema.decay) == (8, 0.5), "what is written out counts"
    assert longer.description.startswith("Trial 3 (changed: train.epochs=8, ")
