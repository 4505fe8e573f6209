"""Augmentation on CUDA: nothing waits for the device, and what the CPU computes comes out."""

import pytest
import torch

from tests.support.images import real_images
from trainers.api import Augment
from trainers.augment import Augmenter, color, geometry, prepare

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)


def test_no_augmentation_waits_for_the_gpu() -> None:
    images = real_images(125).cuda()
    labels = torch.zeros(len(images), dtype=torch.int64, device="cuda")
    settings = Augment(crop="resized", cutout=0.3, erase=0.5, cutmix=1.0)
    augmenter = Augmenter(settings, mean=MEAN, std=STD, num_classes=10, label_smoothing=0.1)
    draws = torch.Generator("cuda").manual_seed(0)
    for waiting in ("default", "error"):
        torch.cuda.set_sync_debug_mode(waiting)
        try:
            result, targets = augmenter(images, labels, size=64, magnitude=9.0, mixup=0.2, generator=draws)
            prepare(images, size=64, mean=MEAN, std=STD)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert result.isfinite().all()
    torch.testing.assert_close(targets.sum(1), torch.ones_like(targets[:, 0]))


def test_augmentation_on_the_gpu_equals_that_on_the_cpu() -> None:
    images = real_images(125).float()
    every = torch.full((len(images),), 9.0)
    for name in color.OPERATIONS:
        chosen = {operation: torch.full((len(images),), operation == name) for operation in color.OPERATIONS}
        expected = color.distort(images, color.settings(every, chosen))
        on_device = {operation: mask.cuda() for operation, mask in chosen.items()}
        result = color.distort(images.cuda(), color.settings(every.cuda(), on_device)).cpu()
        assert (result - expected).abs().max() <= 1
    for name in geometry.GEOMETRIC_OPERATIONS:
        chosen = {
            operation: torch.full((len(images),), operation == name) for operation in geometry.GEOMETRIC_OPERATIONS
        }
        matrix = geometry.maps(every, chosen)
        place = torch.ones(len(images), 2), torch.zeros(len(images), 2)
        expected, _ = geometry.sample(images, 48, matrix, *place)
        result, _ = geometry.sample(images.cuda(), 48, matrix.cuda(), *(window.cuda() for window in place))
        assert (result.cpu() - expected).abs().max() < 0.1
