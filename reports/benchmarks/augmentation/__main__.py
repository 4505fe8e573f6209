"""How much RandAugment changes the images of CIFAR-10, by magnitude, in the published and in the increasing form.

    python -m reports.benchmarks.augmentation --root FOLDER

FOLDER holds the official files of CIFAR-10. Writes `randaugment.json` and `randaugment.png` beside this file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from reports.drawing.palette import GREY, STUDY_COLOR
from trainers.api import Augment, DataConfig
from trainers.augment import Augmenter
from trainers.augment.magnitude import FORMS
from trainers.data import prepare, train_and_validation

HERE = Path(__file__).parent
MAGNITUDES = (0.0, 0.05, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.5, 10.0, 12.5, 15.0, 20.0, 25.0, 30.0)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m reports.benchmarks.augmentation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--root", required=True, help="folder with the official files of CIFAR-10")
    parser.add_argument("--images", type=int, default=5000, help="number of images (5000)")
    parser.add_argument("--output", type=Path, default=HERE, help="folder for the results (beside the program)")
    options = parser.parse_args(arguments)
    data = DataConfig(name="cifar10", root=options.root, train_limit=options.images, validation_limit=100)
    with tempfile.TemporaryDirectory() as cache:
        prepare(data, cache)
        part, _ = train_and_validation(data, cache, "cpu")
    pixels = part.images[part.indices]
    curves = {form: [change(pixels, form, magnitude) for magnitude in MAGNITUDES] for form in FORMS}
    stored = {"images": options.images, "layers": 2, "magnitudes": MAGNITUDES, "mean_change": curves}
    (options.output / "randaugment.json").write_text(json.dumps(stored, indent=1) + "\n")
    draw(curves, options.output / "randaugment.png")
    for magnitude, *changes in zip(MAGNITUDES, *curves.values(), strict=True):
        print(f"{magnitude:>6g}  " + "  ".join(f"{value:6.1f}" for value in changes))
    return 0


def change(pixels: Tensor, form: str, magnitude: float) -> float:
    """Mean absolute change of a pixel value (0 to 255) by two operations, without crop and flip."""
    settings = Augment(flip=False, crop="none", randaugment_form=form)  # type: ignore[arg-type]
    augmenter = Augmenter(settings, mean=(0, 0, 0), std=(1 / 255,) * 3, num_classes=10, label_smoothing=0)
    changed, _ = augmenter(
        pixels,
        torch.zeros(len(pixels), dtype=torch.int64),
        size=pixels.shape[-1],
        magnitude=magnitude,
        mixup=0,
        generator=torch.Generator().manual_seed(0),
    )
    return round((changed - pixels).abs().mean().item(), 2)


def draw(curves: dict[str, list[float]], file: Path) -> None:
    """Both curves, and where the published form begins to grow."""
    figure, axes = plt.subplots(figsize=(6.4, 3.6), dpi=120, layout="constrained")
    for (form, changes), color in zip(curves.items(), STUDY_COLOR, strict=False):
        axes.plot(MAGNITUDES, changes, "o-", color=color, label=form, markersize=4)
    axes.axvline(5, color=GREY, linewidth=1, linestyle=":")
    axes.set(xlabel="RandAugment magnitude", ylabel="mean change of a pixel (of 255)", ylim=(0, None), xlim=(-0.3, 30))
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
