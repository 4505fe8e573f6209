import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.data import auto_augment
from torchvision.transforms import RandAugment

from trainers.augment import magnitude as scale

HPARAMS = {"translate_pct": 0.45}
ARGUMENTS = {
    "Rotate": lambda level: torch.rad2deg(scale.rotation(level)),
    "ShearX": scale.shear,
    "TranslateXRel": scale.translation,
    "Solarize": scale.solarize_threshold,
    "SolarizeAdd": scale.solarize_addition,
    "Color": scale.enhancement,
    "Contrast": scale.enhancement,
    "Brightness": scale.enhancement,
    "Sharpness": scale.enhancement,
}


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("level", [1, 2, 3, 5, 7, 9, 10])
def test_a_canonical_magnitude_means_what_it_means_in_timm(name: str, level: int) -> None:
    (expected,) = auto_augment.LEVEL_TO_ARG[name](level, HPARAMS)
    ours = ARGUMENTS[name](torch.tensor(float(level)))
    assert ours.item() == pytest.approx(abs(expected), rel=1e-5)


@pytest.mark.parametrize("level", [3, 5, 7, 9, 10, 15, 20, 25])
def test_posterize_keeps_as_many_bits_as_in_timm_and_never_none(level: int) -> None:
    (expected,) = auto_augment.LEVEL_TO_ARG["Posterize"](level, HPARAMS)
    assert scale.posterize_bits(torch.tensor(float(level))).item() == min(max(expected, 1), 8)
    assert scale.posterize_bits(torch.tensor(0.0)).item() == 1


def test_arguments_grow_linearly_above_ten() -> None:
    for argument in (scale.rotation, scale.shear, scale.translation):
        ten, twenty = argument(torch.tensor([10.0, 20.0]))
        assert twenty == pytest.approx(2 * ten.item())
    assert scale.enhancement(torch.tensor(20.0)).item() == pytest.approx(3.7)
    assert scale.cutout_half_side(torch.tensor(10.0)).item() * 224 == pytest.approx(40)


@pytest.mark.parametrize("magnitude", [0, 4.6, 9, 10, 15.2, 30])
def test_timms_string_creates_the_operations_at_the_same_magnitude(magnitude: float) -> None:
    transform = auto_augment.rand_augment_transform(scale.to_timm(magnitude, layers=3, std=0.5), {})
    assert transform.num_layers == 3
    for operation in transform.ops:
        assert operation.magnitude == round(magnitude)
        assert operation.prob == 1.0
        assert operation.magnitude_std == 0.5
        assert operation.magnitude_max >= magnitude  # else timm clips it


@pytest.mark.parametrize("level", [0.4, 1, 2, 3, 5, 7, 9, 10])
def test_in_the_increasing_form_solarize_and_blends_are_those_of_timms_inc1(level: float) -> None:
    levels, sign = torch.tensor([level, level]), torch.tensor([-1.0, 1.0])
    found = scale.increasing(levels, sign)
    (threshold,) = auto_augment.LEVEL_TO_ARG["SolarizeIncreasing"](level, HPARAMS)
    assert found.threshold.tolist() == [threshold] * 2
    (factor,) = auto_augment.LEVEL_TO_ARG["ColorIncreasing"](level, HPARAMS)
    assert found.factor.tolist() == pytest.approx(sorted([factor, 2 - factor]))


def test_in_the_increasing_form_nothing_changes_at_zero_and_nothing_leaves_its_range() -> None:
    sign = torch.tensor([-1.0, 1.0])
    none = scale.increasing(torch.zeros(2), sign)
    assert (none.bits == 8).all()
    assert (none.threshold > 255).all()
    assert (none.factor == 1).all()
    assert (none.chance == 0).all()
    most = scale.increasing(torch.full((2,), 30.0), sign)
    assert (most.bits >= 1).all()
    assert most.factor.tolist() == pytest.approx([0.1, 3.7])


@pytest.mark.parametrize("magnitude", [0.6, 9, 15.2])
def test_timms_string_of_the_increasing_form_creates_its_increasing_operations(magnitude: float) -> None:
    name = scale.to_timm(magnitude, layers=2, std=0.5, increasing=True)
    names = {operation.name for operation in auto_augment.rand_augment_transform(name, {}).ops}
    assert {"PosterizeIncreasing", "SolarizeIncreasing", "ColorIncreasing"} <= names


def torchvision_bin(magnitude: int) -> int:
    """The bin of torchvision's RandAugment with 31 bins: a third of a canonical step each."""
    return 3 * magnitude


@given(st.integers(0, 30))
def test_every_bin_of_torchvision_rotates_as_a_third_of_it_here(index: int) -> None:
    space = RandAugment(num_magnitude_bins=31)._augmentation_space(31, (331, 331))
    ours = torch.rad2deg(scale.rotation(torch.tensor(index / 3)))
    assert space["Rotate"][0][index].item() == pytest.approx(ours.item(), abs=1e-4)


@pytest.mark.parametrize("magnitude", [0, 1, 5, 9, 10])
def test_a_torchvision_bin_moves_pixels_as_far_as_a_third_of_it_here(magnitude: int) -> None:
    space = RandAugment(num_magnitude_bins=31)._augmentation_space(31, (331, 331))
    index = torchvision_bin(magnitude)
    level = torch.tensor(float(magnitude))
    assert space["Rotate"][0][index].item() == pytest.approx(torch.rad2deg(scale.rotation(level)).item(), abs=1e-4)
    assert space["ShearX"][0][index].item() == pytest.approx(scale.shear(level).item(), abs=1e-6)
    assert space["TranslateX"][0][index].item() == pytest.approx(331 * scale.translation(level).item(), rel=0.01)


def test_torchvisions_magnitudes_differ_where_the_documentation_says_so() -> None:
    space = RandAugment(num_magnitude_bins=31)._augmentation_space(31, (331, 331))
    ten, level = torchvision_bin(10), torch.tensor(10.0)
    assert space["Solarize"][0][ten].item() == 0  # all pixels inverted
    assert scale.solarize_threshold(level).item() == 256  # none
    assert 1 + space["Color"][0][ten].item() == pytest.approx(scale.enhancement(level).item())
    assert scale.enhancement(torch.tensor(5.0)).item() == pytest.approx(1)
    assert space["Color"][0][torchvision_bin(5)].item() == pytest.approx(0.45)


@pytest.mark.parametrize("magnitude", [-0.1, 30.1, float("nan")])
def test_a_magnitude_out_of_range_is_an_error(magnitude: float) -> None:
    with pytest.raises(ValueError, match="magnitude"):
        scale.to_timm(magnitude, layers=2)


def test_a_magnitude_that_timm_would_clip_is_an_error() -> None:
    with pytest.raises(ValueError, match="30"):
        scale.to_timm(31, layers=2)
    assert scale.to_timm(9, layers=2).startswith("rand-m9-")
