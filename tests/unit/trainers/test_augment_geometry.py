"""Maps, windows and the one sampling against Pillow and torchvision. Tolerances are in pixel values of 255."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.transforms import RandomErasing, RandomResizedCrop
from torchvision.transforms.v2 import functional as TV

from tests.support.images import from_pillow, real_images, to_pillow
from trainers.augment import erase, geometry
from trainers.augment import magnitude as scale

SIDE = 32


def chosen(*names: str) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([name in names]) for name in geometry.GEOMETRIC_OPERATIONS}


def whole(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(count, 2), torch.zeros(count, 2)


def pillow_matrix(name: str, level: float) -> tuple[float, ...]:
    """What timm and google/automl hand to an affine transform: from result to source, in pixels."""
    if name == "rotate":
        angle = math.radians(3 * level)
        cosine, sine, middle = math.cos(angle), math.sin(angle), SIDE / 2
        return (
            cosine, -sine, middle - cosine * middle + sine * middle,
            sine, cosine, middle - sine * middle - cosine * middle,
        )  # fmt: skip
    slant, share = 0.03 * level, 0.045 * level * SIDE
    return {
        "shear_x": (1, slant, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, slant, 1, 0),
        "translate_x": (1, 0, share, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, share),
    }[name]


@pytest.mark.parametrize("level", [-15.0, -4.3, 2.0, 10.0])
@pytest.mark.parametrize("name", geometry.GEOMETRIC_OPERATIONS)
def test_every_operation_is_pillows(name: str, level: float) -> None:
    images = real_images(20)
    matrix = geometry.maps(torch.tensor([level]), chosen(name)).expand(len(images), 3, 3)
    result, inside = geometry.sample(images.float(), SIDE, matrix, *whole(len(images)))
    assert inside is not None
    settings = {"data": pillow_matrix(name, level), "resample": Image.Resampling.BILINEAR}
    for index, image in enumerate(images):
        turned = to_pillow(image).transform((SIDE, SIDE), Image.Transform.AFFINE, **settings)
        frame = Image.new("L", (SIDE, SIDE), 255).transform((SIDE, SIDE), Image.Transform.AFFINE, **settings)
        expected_inside = torch.from_numpy(np.array(frame)) > 0
        assert (inside[index, 0] != expected_inside).float().mean() < 0.002  # exactly on the edge
        both = expected_inside & inside[index, 0]
        assert (result[index] - from_pillow(turned))[:, both].abs().max() <= 1.01


@pytest.mark.parametrize("level", [-9.0, 9.0])
def test_rotation_equals_torchvisions(level: float) -> None:
    images = real_images(20)
    matrix = geometry.maps(torch.tensor([level]), chosen("rotate")).expand(len(images), 3, 3)
    result, _ = geometry.sample(images.float(), SIDE, matrix, *whole(len(images)))
    # torchvision fades into the fill within half a pixel of the edge, so the middle is compared.
    expected = TV.rotate(images.float(), 3 * level, interpolation=TV.InterpolationMode.BILINEAR)
    middle = (..., slice(10, 22), slice(10, 22))
    assert (result[middle] - expected[middle]).abs().max() < 0.01


def test_geometric_operations_are_applied_in_the_order_drawn() -> None:
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    smooth = torch.stack([x * 3, y * 3, (x + y) * 1.5]).to(torch.uint8)
    first, second = (geometry.maps(torch.tensor([8.0]), chosen(name)) for name in ("shear_x", "rotate"))
    identity = whole(1)
    halfway, inside_one = geometry.sample(smooth[None].float(), 64, first, *identity)
    expected, inside_two = geometry.sample(halfway, 64, second, *identity)
    result, inside = geometry.sample(smooth[None].float(), 64, geometry.compose(first, second), *identity)
    swapped, _ = geometry.sample(smooth[None].float(), 64, geometry.compose(second, first), *identity)
    assert inside_one is not None
    assert inside_two is not None
    assert inside is not None
    seen, _ = geometry.sample(inside_one.float().expand(-1, 3, -1, -1), 64, second, *identity)
    both = ((seen == 1) & inside & inside_two).expand_as(result)
    assert both.float().mean() > 0.5
    assert (result - expected)[both].abs().max() < 2
    assert (swapped - expected)[both].abs().max() > 5


@pytest.mark.parametrize("size", [32, 48, 64, 100])
def test_without_an_operation_sampling_is_a_bilinear_resize(size: int) -> None:
    images = real_images(8)
    result, inside = geometry.sample(images.float(), size, None, *whole(len(images)))
    assert inside is None
    torch.testing.assert_close(result, F.interpolate(images.float(), (size, size), mode="bilinear"), atol=0.01, rtol=0)
    pillow = from_pillow(to_pillow(images[0]).resize((size, size), Image.Resampling.BILINEAR))
    assert (result[0] - pillow).abs().max() <= 1.01  # Pillow rounds after each axis


def test_padded_windows_equal_torchvisions_random_crop() -> None:
    images = real_images(20)
    draws = torch.rand(len(images), 2, generator=torch.Generator().manual_seed(0))
    padded = F.pad(images.float(), [4] * 4, mode="reflect")
    result, _ = geometry.sample(padded, SIDE, None, *geometry.pad_windows(draws, SIDE, 4))
    reference = TV.pad(images, [4] * 4, padding_mode="reflect")
    for index, (x, y) in enumerate((draws * 9).floor().int().tolist()):
        expected = TV.crop(reference[index], y, x, SIDE, SIDE).float()
        assert (result[index] - expected).abs().max() < 0.01


def test_padded_windows_reach_every_offset_and_no_further() -> None:
    edges = torch.tensor([[0.0, 1 - 2**-24], [0.5, 1.0]])
    scales, centres = geometry.pad_windows(edges, SIDE, 4)
    assert (centres.abs() + scales <= 1 + 1e-6).all()
    draws = torch.rand(2000, 2, generator=torch.Generator().manual_seed(1))
    offsets = (geometry.pad_windows(draws, SIDE, 4)[1] * 20 + 4).round().int()
    assert offsets.unique().tolist() == list(range(9))


def test_a_resized_window_equals_torchvisions_resized_crop() -> None:
    images = real_images(6)
    top, left, height, width = 5, 9, 18, 12
    scales = torch.tensor([[width / SIDE, height / SIDE]]).expand(len(images), 2)
    centres = torch.tensor([[(2 * left + width) / SIDE - 1, (2 * top + height) / SIDE - 1]]).expand(len(images), 2)
    result, _ = geometry.sample(images.float(), 72, None, scales, centres)
    expected = TV.resized_crop(images.float(), top, left, height, width, [72, 72], antialias=False)
    # At the edge torchvision repeats the crop's border, the sampling sees the pixels beyond it.
    inner = (..., slice(3, -3), slice(4, -4))
    assert (result[inner] - expected[inner]).abs().max() < 0.01


def test_resized_windows_are_drawn_as_torchvision_draws_them() -> None:
    draws = torch.rand(6000, 2 * geometry.ATTEMPTS + 2, generator=torch.Generator().manual_seed(2))
    sides, centres = geometry.resized_windows(draws, 0.08)
    assert (centres.abs() + sides <= 1 + 1e-6).all()
    torch.manual_seed(3)
    image = torch.zeros(3, 400, 400)
    boxes = torch.tensor([RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(6000)])
    theirs = boxes[:, [3, 2]] / 400
    for statistic in (
        lambda sides: sides.prod(1).mean(),
        lambda sides: sides.prod(1).std(),
        lambda sides: (sides[:, 0] / sides[:, 1]).log().mean(),
        lambda sides: (sides[:, 0] / sides[:, 1]).log().std(),
    ):
        assert statistic(sides).item() == pytest.approx(statistic(theirs).item(), abs=0.015)
    left = (boxes[:, 1] + boxes[:, 3] / 2) / 400 * 2 - 1
    assert centres[:, 0].std().item() == pytest.approx(left.std().item(), abs=0.015)


def test_a_window_that_never_fits_falls_back_to_the_whole_image() -> None:
    too_wide = torch.ones(1, 2 * geometry.ATTEMPTS + 2)
    sides, centres = geometry.resized_windows(too_wide, 0.9)
    assert sides.tolist() == [[1, 1]]
    assert centres.tolist() == [[0, 0]]


def test_flips_mirror_the_image() -> None:
    images = real_images(4)
    flip = torch.arange(len(images)) % 2 == 0
    scales, centres = whole(len(images))
    result, _ = geometry.sample(images.float(), SIDE, None, scales * geometry.flips(flip), centres)
    expected = torch.where(flip[:, None, None, None], images.flip(-1), images).float()
    assert (result - expected).abs().max() < 0.01


def test_cutout_covers_its_square_and_no_more() -> None:
    middle_and_corner = torch.tensor([[0.5, 0.5], [0.0, 1.0]])
    covered = erase.covered(erase.squares(middle_and_corner, 0.25)[:, None], 64)
    assert covered[0].sum() == 32 * 32
    assert covered[0, 0, 16:48, 16:48].all()
    assert covered[1].sum() == 16 * 16
    assert covered[1, 0, 48:, :16].all()


def test_random_erasing_draws_as_torchvision_does() -> None:
    draws = torch.rand(6000, 2 * geometry.ATTEMPTS + 3, generator=torch.Generator().manual_seed(4))
    rectangles = erase.random_rectangles(draws, 1.0)
    assert (rectangles >= 0).all()
    assert (rectangles <= 1 + 1e-6).all()
    sides = rectangles[:, 2:] - rectangles[:, :2]
    torch.manual_seed(5)
    image = torch.zeros(3, 200, 200)
    boxes = [RandomErasing.get_params(image, (0.02, 1 / 3), (0.3, 3.3)) for _ in range(3000)]
    areas = torch.tensor([height * width / 200**2 for _, _, height, width, _ in boxes])
    assert sides.prod(1).mean().item() == pytest.approx(areas.mean().item(), abs=0.006)
    assert sides.prod(1).std().item() == pytest.approx(areas.std().item(), abs=0.006)


def test_random_erasing_spares_its_share_of_the_images() -> None:
    draws = torch.rand(4000, 2 * geometry.ATTEMPTS + 3, generator=torch.Generator().manual_seed(6))
    covered = erase.covered(erase.random_rectangles(draws, 0.25)[:, None], 32).flatten(1).any(1)
    assert covered.float().mean().item() == pytest.approx(0.25, abs=0.03)


def test_the_cutout_of_magnitude_ten_has_googles_size() -> None:
    half = scale.cutout_half_side(torch.tensor([10.0]))[:, None]
    covered = erase.covered(erase.squares(torch.tensor([[[0.5, 0.5]]]), half), 224)
    assert covered.sum() == 80 * 80
