"""Every colour operation against Pillow and torchvision, on real images. Tolerances are in pixel values of 255."""

from collections.abc import Callable

import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from timm.data.auto_augment import solarize_add
from torchvision.transforms.v2 import functional as TV

from tests.support.images import from_pillow, real_images, to_pillow
from trainers.augment import color
from trainers.augment import magnitude as scale

OPERATIONS = color.OPERATIONS
ARGUMENT = {
    "posterize": lambda level: int(scale.posterize_bits(level)),
    "solarize": lambda level: int(scale.solarize_threshold(level)),
    "solarize_add": lambda level: int(scale.solarize_addition(level)),
    **dict.fromkeys(("color", "contrast", "brightness", "sharpness"), lambda level: float(scale.enhancement(level))),
    **dict.fromkeys(("autocontrast", "equalize", "invert"), lambda level: None),
}
PILLOW: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "invert": lambda image, _: ImageOps.invert(image),
    "posterize": ImageOps.posterize,
    "solarize": ImageOps.solarize,
    "solarize_add": solarize_add,
    "color": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
}
TORCHVISION: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "autocontrast": lambda images, _: TV.autocontrast(images),
    "equalize": lambda images, _: TV.equalize(images),
    "invert": lambda images, _: TV.invert(images),
    "posterize": TV.posterize,
    # It takes no threshold above 255, where nothing is inverted.
    "solarize": lambda images, threshold: TV.solarize(images, threshold) if threshold < 256 else images,
    "color": TV.adjust_saturation,
    "contrast": TV.adjust_contrast,
    "brightness": TV.adjust_brightness,
    "sharpness": TV.adjust_sharpness,
}
# torchvision truncates autocontrast in single precision, weighs gray with three digits, does not round the mean
# gray; all of these are multiplied by the factor: 0.1 + 0.18 * 15 = 2.8 at most.
TORCHVISION_TOLERANCE = {"autocontrast": 1, "color": 3, "contrast": 3, "brightness": 1, "sharpness": 2}
LEVELS = (0.0, 2.0, 4.3, 9.0, 15.0)


def apply(name: str, images: torch.Tensor, level: float) -> torch.Tensor:
    every = torch.full((len(images),), level)
    chosen = {operation: torch.full((len(images),), operation == name) for operation in OPERATIONS}
    return color.distort(images.float(), color.settings(every, chosen))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_pillows(name: str, level: float) -> None:
    images = real_images(40)
    argument = ARGUMENT[name](torch.tensor(level))
    expected = torch.stack([from_pillow(PILLOW[name](to_pillow(image), argument)) for image in images])
    difference = (apply(name, images, level) - expected).abs()
    blended = name in ("color", "contrast", "brightness", "sharpness")
    assert difference.max() <= (1 if blended else 0)
    assert difference.mean() < 0.01


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", TORCHVISION)
def test_every_operation_is_torchvisions_up_to_its_rounding(name: str, level: float) -> None:
    images = real_images(40)
    argument = ARGUMENT[name](torch.tensor(level))
    expected = TORCHVISION[name](images, argument).float()
    difference = (apply(name, images, level) - expected).abs()
    assert difference.max() <= TORCHVISION_TOLERANCE.get(name, 0)


@pytest.mark.parametrize("name", OPERATIONS)
def test_colour_operations_return_whole_pixel_values(name: str) -> None:
    result = apply(name, real_images(40), 25.0)
    assert torch.equal(result, result.clamp(0, 255).round())


def test_each_image_gets_its_own_colour_operation_and_level() -> None:
    images = real_images(len(OPERATIONS) - 3)
    levels = torch.linspace(1, 12, len(images))
    chosen = {name: torch.arange(len(images)) == index for index, name in enumerate(OPERATIONS)}
    together = color.distort(images.float(), color.settings(levels, chosen))
    for index, name in enumerate(OPERATIONS):
        alone = apply(name, images[index : index + 1], levels[index].item())
        assert torch.equal(together[index], alone[0]), name


def test_an_image_without_a_colour_operation_does_not_change() -> None:
    images = real_images(8)
    nothing = {name: torch.zeros(len(images), dtype=torch.bool) for name in OPERATIONS}
    neutral = color.settings(torch.full((len(images),), 9.0), nothing)
    assert torch.equal(color.distort(images.float(), neutral), images.float())
