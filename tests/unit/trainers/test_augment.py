"""The augmenter as a whole: seeded, resumable, per image, with constant shapes and nothing that waits."""

import itertools
import random
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.images import from_pillow, real_images, to_pillow
from trainers.api import Augment
from trainers.augment import Augmenter, erase, mix, prepare, randaugment

MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
PLAIN = Augment(flip=False, crop="none", randaugment_layers=0)
EVERYTHING = Augment(crop="resized", cutout=0.3, erase=0.5, cutmix=1.0)
CHOICES = {
    "plain": PLAIN,
    "default": Augment(),
    "everything": EVERYTHING,
    "four layers": Augment(randaugment_layers=4, crop="none"),
    "increasing": Augment(randaugment_form="increasing"),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def augment(
    settings: Augment,
    images: torch.Tensor,
    draws: torch.Generator,
    *,
    size: int = 40,
    magnitude: float = 9.0,
    mixup: float = 0.2,
    smoothing: float = 0.1,
) -> tuple[torch.Tensor, torch.Tensor]:
    augmenter = Augmenter(settings, mean=MEAN, std=STD, num_classes=10, label_smoothing=smoothing)
    labels = torch.arange(len(images)) % 10
    return augmenter(images, labels, size=size, magnitude=magnitude, mixup=mixup, generator=draws)


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("size", [16, 32, 40])
@pytest.mark.parametrize("batch", [1, 13])
def test_an_augmented_batch_has_the_promised_shape_type_and_range(name: str, size: int, batch: int) -> None:
    images, targets = augment(CHOICES[name], real_images(20)[:batch], generator(), size=size)
    assert images.shape == (batch, 3, size, size)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.isfinite().all()
    lowest, highest = (0 - max(MEAN)) / min(STD), (1 - min(MEAN)) / min(STD)
    assert images.min() >= lowest - 1e-4
    assert images.max() <= highest + 1e-4
    assert targets.shape == (batch, 10)
    torch.testing.assert_close(targets.sum(1), torch.ones(batch))
    assert (targets >= 0.1 / 10 - 1e-6).all()


@pytest.mark.parametrize("name", CHOICES)
def test_augmentation_draws_all_random_numbers_from_its_generator(name: str) -> None:
    images, draws = real_images(20), generator(3)
    before = draws.get_state()
    globals_before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    first = augment(CHOICES[name], images, draws)
    second = augment(CHOICES[name], images, draws)
    assert torch.equal(torch.get_rng_state(), globals_before[0])
    assert np.random.get_state()[1].tolist() == globals_before[1]
    assert random.getstate() == globals_before[2]
    torch.manual_seed(99)
    draws.set_state(before)  # as a resumed trial does
    for expected in (first, second):
        again = augment(CHOICES[name], images, draws)
        assert torch.equal(again[0], expected[0])
        assert torch.equal(again[1], expected[1])


@pytest.mark.parametrize("name", ["default", "everything"])
def test_another_seed_gives_another_augmentation(name: str) -> None:
    first, second = (augment(CHOICES[name], real_images(20), generator(seed))[0] for seed in (1, 2))
    assert (first != second).flatten(1).any(1).float().mean() > 0.8


def test_augmentation_does_not_change_its_input() -> None:
    images = real_images(20)
    copy = images.clone()
    augment(EVERYTHING, images, generator())
    assert torch.equal(images, copy)


@pytest.mark.parametrize("name", CHOICES)
def test_autocast_does_not_change_the_augmentation(name: str) -> None:
    images = real_images(20)
    expected = augment(CHOICES[name], images, generator())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = augment(CHOICES[name], images, generator())
        evaluated = prepare(images, size=40, mean=MEAN, std=STD)
    assert torch.equal(result[0], expected[0])
    assert torch.equal(result[1], expected[1])
    assert torch.equal(evaluated, prepare(images, size=40, mean=MEAN, std=STD))


class Recorder(TorchDispatchMode):
    """Every operation that reaches the kernels, with the shapes of its results."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        shapes = [
            tuple(leaf.shape) for leaf in torch.utils._pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)
        ]
        self.calls.append((str(func), str(shapes)))
        return result


@pytest.mark.parametrize("name", CHOICES)
def test_no_augmentation_waits_for_the_device_or_has_a_random_shape(name: str) -> None:
    images = real_images(20)
    recorded = []
    augment(CHOICES[name], images, generator())  # what is kept between batches is there
    for seed in (1, 2):
        with Recorder() as recorder:
            augment(CHOICES[name], images, generator(seed))
            prepare(images, size=40, mean=MEAN, std=STD)
        recorded.append(recorder.calls)
    assert recorded[0] == recorded[1]
    # A value read back, indices found, or a Python number moved to the device: on CUDA each of them waits.
    waiting = ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "scalar_tensor", "aten.index.Tensor")
    assert [call for call, _ in recorded[0] if any(word in call for word in waiting)] == []
    assert len(recorded[0]) > 5


def test_magnitude_zero_and_no_layers_both_switch_randaugment_off() -> None:
    images = real_images(20)
    expected = prepare(images, size=40, mean=MEAN, std=STD)
    for settings, magnitude in ((PLAIN, 9.0), (replace(PLAIN, randaugment_layers=2), 0.0)):
        result, _ = augment(settings, images, generator(), magnitude=magnitude, mixup=0)
        torch.testing.assert_close(result, expected, atol=1e-3, rtol=0)


def test_every_image_gets_its_own_augmentation() -> None:
    same = real_images(5)[:1].expand(300, -1, -1, -1)
    images, _ = augment(Augment(flip=False, crop="none"), same, generator(), size=32, mixup=0)
    assert len(images.flatten(1).unique(dim=0)) > 200


def test_randaugment_draws_operations_signs_and_magnitudes_as_published() -> None:
    count = 20_000
    plan = randaugment.draw(count, 2, 9.0, generator=generator(), device=torch.device("cpu"))
    assert len(randaugment.OPERATIONS) == 16
    for layer in range(2):
        shares = torch.bincount(plan.operation[:, layer], minlength=16) / count
        assert (shares - 1 / 16).abs().max() < 5 * (1 / 16 / count) ** 0.5
    pairs = torch.bincount(plan.operation[:, 0] * 16 + plan.operation[:, 1], minlength=256) / count
    assert (pairs - 1 / 256).abs().max() < 5 * (1 / 256 / count) ** 0.5  # with replacement, independent
    assert plan.sign.abs().unique().tolist() == [1]
    assert plan.sign.mean().abs() < 0.03
    assert plan.level.mean().item() == pytest.approx(9, abs=0.02)
    assert plan.level.std().item() == pytest.approx(randaugment.MAGNITUDE_STD, abs=0.02)


def test_randaugment_magnitudes_are_never_negative() -> None:
    plan = randaugment.draw(1000, 2, 0.1, generator=generator(), device=torch.device("cpu"))
    assert plan.level.min() == 0


def mean_change(form: Literal["published", "increasing"], magnitude: float) -> float:
    """Mean absolute change of a pixel value by two operations."""
    images = real_images(400)
    settings = replace(PLAIN, randaugment_layers=2, randaugment_form=form)
    changed, _ = augment(settings, images, generator(), size=32, magnitude=magnitude, mixup=0)
    unchanged, _ = augment(PLAIN, images, generator(), size=32, mixup=0)
    return (changed - unchanged).abs().mean().item()


def test_the_published_form_has_a_cliff_at_zero_and_the_increasing_form_has_none() -> None:
    at_five = mean_change("published", 5)
    assert mean_change("published", 0.05) > 0.8 * at_five
    grown = [mean_change("increasing", magnitude) for magnitude in (0.05, 0.5, 1.5, 3, 5, 10, 15)]
    assert grown == sorted(grown)
    assert grown[0] < 0.05 * at_five
    assert grown[4] == pytest.approx(at_five, rel=0.15)
    steps = [later - earlier for earlier, later in itertools.pairwise(grown)]
    assert max(steps) < 0.5 * at_five


def test_an_operation_changes_only_the_images_that_drew_it() -> None:
    images = real_images(13).float()
    turned = torch.zeros(16, 1, dtype=torch.int64)
    turned[3] = randaugment.OPERATIONS.index("rotate")
    turned[:3] = turned[4:] = randaugment.OPERATIONS.index("cutout")
    plan = randaugment.Plan(turned, torch.full((16, 1), 9.0), torch.ones(16, 1), torch.full((16, 1, 2), 0.5))
    pixels, matrix, holes = randaugment.apply(images, plan)
    assert torch.equal(pixels, images)
    assert [index for index in range(16) if not torch.equal(matrix[index], torch.eye(3))] == [3]
    assert erase.covered(holes, 32).flatten(1).any(1).tolist() == [index != 3 for index in range(16)]


def test_half_of_the_images_are_flipped() -> None:
    images = real_images(5)[:1].expand(2000, -1, -1, -1)
    result, _ = augment(replace(PLAIN, flip=True), images, generator(), size=32, mixup=0)
    straight = prepare(images[:1], size=32, mean=MEAN, std=STD)
    flipped = ((result - straight).abs().amax((1, 2, 3)) > 0.1).float().mean().item()
    assert flipped == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("size", [24, 32])
def test_cutout_erases_its_share_of_the_side(size: int) -> None:
    white = torch.full((400, 3, 32, 32), 255, dtype=torch.uint8)
    result, _ = augment(replace(PLAIN, cutout=0.5), white, generator(), size=size, mixup=0)
    erased = (result == 0).all(1).flatten(1).float().mean(1)
    assert erased.max() == pytest.approx(0.25, abs=0.05)
    assert erased.min() >= 1 / 16 - 0.03  # a centre in the corner leaves a quarter of the square
    assert erased.mean().item() == pytest.approx(0.25 * (7 / 8) ** 2, abs=0.02)


def test_pixels_outside_the_image_become_the_mean() -> None:
    white = torch.full((300, 3, 32, 32), 255, dtype=torch.uint8)
    result, _ = augment(replace(PLAIN, randaugment_layers=4), white, generator(), size=32, mixup=0)
    assert (result == 0).any()
    shifted = (result == 0).all(1).flatten(1).any(1).float().mean()
    assert shifted > 0.5


@pytest.mark.parametrize("alpha", [0.02, 0.2, 1.0, 5.0])
def test_beta_draws_have_the_right_moments_for_every_alpha(alpha: float) -> None:
    draws = mix.beta(alpha, 40_000, generator=generator(), device=torch.device("cpu")).double()
    assert draws.isfinite().all()
    assert ((draws >= 0) & (draws <= 1)).all()
    assert draws.mean().item() == pytest.approx(0.5, abs=0.012)
    assert draws.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)


def test_mixup_blends_each_image_with_its_partner_by_its_own_share() -> None:
    images = real_images(17)[:20]
    plain, one_hot = augment(PLAIN, images, generator(), mixup=0, smoothing=0.1)
    mixed, targets = augment(PLAIN, images, generator(7), mixup=0.8, smoothing=0.1)
    labels = torch.arange(20) % 10
    own = (targets[torch.arange(20), labels] - 0.01) / 0.9
    assert (own >= 0.5 - 1e-6).all()
    assert own.unique().numel() >= 10
    torch.testing.assert_close(mixed, torch.lerp(plain.flip(0), plain, own[:, None, None, None]), atol=1e-3, rtol=0)
    torch.testing.assert_close(targets, torch.lerp(one_hot.flip(0), one_hot, own[:, None]))


def test_cutmix_counts_targets_by_the_pixels_shown() -> None:
    # Grey levels name the images, so that each pixel tells whose it is.
    images = (torch.arange(20, dtype=torch.uint8) * 10 + 20)[:, None, None, None].expand(20, 3, 32, 32)
    plain, one_hot = augment(PLAIN, images, generator(), mixup=0, smoothing=0)
    mixed, targets = augment(replace(PLAIN, cutmix=1.0), images, generator(5), mixup=0, smoothing=0)
    foreign = (mixed - plain).abs().amax(1) > 0.01
    partner = (mixed - plain.flip(0)).abs().amax(1) < 0.01
    assert torch.equal(foreign, partner)
    share = foreign.float().mean((1, 2))
    assert share.unique().numel() > 10
    assert share.mean().item() == pytest.approx(0.4, abs=0.15)
    torch.testing.assert_close(targets, torch.lerp(one_hot, one_hot.flip(0), share[:, None]))


def test_with_mixup_and_cutmix_each_image_gets_one_of_the_two() -> None:
    images = (torch.arange(200, dtype=torch.uint8) + 20)[:, None, None, None].expand(200, 3, 32, 32)
    mixed, _ = augment(replace(PLAIN, cutmix=1.0), images, generator(), mixup=1.0, smoothing=0)
    boxed = (mixed - mixed[:, :, :1, :1]).abs().amax((1, 2, 3)) > 0.01
    assert 60 < boxed.sum() < 120  # half of them, less the boxes that show nothing or all


def test_soft_targets_equal_torchs_label_smoothing() -> None:
    labels, logits = torch.arange(7), torch.randn(7, 10, generator=generator())
    targets = mix.smooth_targets(labels, 10, 0.1)
    torch.testing.assert_close(F.cross_entropy(logits, targets), F.cross_entropy(logits, labels, label_smoothing=0.1))


@pytest.mark.parametrize("size", [16, 24, 32, 64, 100])
def test_evaluation_images_are_resized_as_pillow_does_bilinearly(size: int) -> None:
    images = real_images(10)
    result = prepare(images, size=size, mean=(0, 0, 0), std=(1, 1, 1)) * 255
    assert result.is_contiguous(memory_format=torch.channels_last)
    for index, image in enumerate(images):
        expected = from_pillow(to_pillow(image).resize((size, size), Image.Resampling.BILINEAR))
        assert (result[index] - expected).abs().max() <= 1.01  # Pillow rounds after each axis


def test_evaluation_images_are_normalised_by_mean_and_deviation() -> None:
    images = real_images(10)
    result = prepare(images, size=32, mean=MEAN, std=STD)
    expected = (images.float() / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(result, expected)
