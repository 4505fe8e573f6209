"""What the host does in one training step, apart from arithmetic.

    python -m reports.benchmarks.training.host --recorded --json reports/benchmarks/training/host.json

On a GPU the host starts every operator of a step, and the GPU idles where the host is slower. This command counts that
work on the CPU by `torch.profiler`, for steps of 8 images of 32 px on one thread, with AdamW, clipped gradients and
averaged weights, without RandAugment and mixup.

- *outside operators* is the time between torch's operators: Python, modules, autograd's bookkeeping.
- *operators* are those that Python or autograd start. On a GPU each costs the host some microseconds more and starts at
  least one kernel.
- *waits* are the numbers that Python reads from the device. On a GPU each one lets the GPU run dry.
- *recorded* (with `--recorded`) is what remains to the host where a CUDA graph repeats the step: the learning rate, the
  copies of the batch, and the augmentation of the batch, which on a GPU serves several batches at once.

A step lasts from the start of the optimiser's step to the start of its next one. Each figure is the median over the
steps of an epoch, without the first ones, which warm up. *earlier* (with `--earlier`) is the code before it could
record whole steps.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from reports.benchmarks.environment import environment
from reports.benchmarks.training.contenders import Case
from trainers import finetune
from trainers.api import AlphaRamp, Context, DataConfig, MagnitudeRamp, TrainConfig, TrialConfig
from trainers.checkpoint import DirectoryStore
from trainers.loop.engine import Engine
from trainers.numerics import Numerics, numerics_of

MODELS = ("tf_efficientnetv2_b0", "tf_efficientnetv2_s")
STEPS, WARM_UP, BATCH, SIZE = 24, 4, 8, 32
WAIT = "aten::item"
"""The operator of `Tensor.item()`. torch's kernels call it too, on the CPU, for numbers that are there."""


STEP = "Optimizer.step#"
"""How the profiler's mark of an optimiser's step begins."""


@dataclass(frozen=True)
class HostWork:
    """The host's work in one step."""

    outside_ms: float
    """Milliseconds outside torch's operators."""
    operators: float
    waits: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it beside the JSON file."""
    parser = argparse.ArgumentParser(prog="python -m reports.benchmarks.training.host", description=_first_line())
    parser.add_argument("--models", nargs="+", default=list(MODELS), help=f"timm models ({' '.join(MODELS)})")
    parser.add_argument("--recorded", action="store_true", help="measure steps that are recorded, too")
    parser.add_argument("--earlier", type=Path, help="JSON file of an earlier version of the code, shown beside")
    parser.add_argument("--json", type=Path, help="write the figures here, and the page beside it")
    options = parser.parse_args(arguments)
    conditions = environment()
    steps = {}
    for model in options.models:
        steps[model] = step_of(model)
        if options.recorded:
            steps[f"{model}, recorded"] = step_of(model, recorded=True)
    earlier = json.loads(options.earlier.read_text(encoding="utf-8"))["steps"] if options.earlier else {}
    lines = table(steps, {model: HostWork(**work) for model, work in earlier.items()})
    if options.json:
        found = {"made": conditions, "steps": {model: asdict(work) for model, work in steps.items()}}
        options.json.write_text(json.dumps(found | {"earlier": earlier}, indent=1) + "\n", encoding="utf-8")
        about = (__doc__ or "").partition("\n")[2].strip("\n")
        text = f"# What the host does in a training step\n\n{about}\n\n{lines}\n"
        options.json.with_suffix(".md").write_text(text, encoding="utf-8")
    print(lines)
    return 0


def _first_line() -> str:
    return (__doc__ or "").partition("\n")[0]


def step_of(model: str, *, recorded: bool = False) -> HostWork:
    """Measure the host's work in one step of a model, in one epoch under the profiler.

    Args:
        recorded: leave out what a CUDA graph would repeat. Works with a version of the engine that records whole steps.
    """
    with tempfile.TemporaryDirectory() as folder, _recording() if recorded else nullcontext():
        config, context = _training(model, folder)
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            list(finetune.train(config, context))
    steps = host_work(profiled.events() or ())[WARM_UP:]
    return HostWork(
        *(statistics.median(values) for values in zip(*(asdict(one).values() for one in steps), strict=True))
    )


def _training(model: str, folder: str) -> tuple[TrialConfig, Context]:
    case = Case(
        model=model,
        size=SIZE,
        device="cpu",
        batch=BATCH,
        steps=STEPS,
        threads=1,
        workers=0,
        source=DataConfig(name="shapes"),
        cache_dir=f"{folder}/cache",
    )
    config = case.config(ema=True)
    plain = replace(config.train.progressive, randaugment=MagnitudeRamp(end=0), mixup=AlphaRamp(end=0))
    config = replace(config, train=replace(config.train, clip_grad=1.0, progressive=plain))
    store = DirectoryStore(f"{folder}/checkpoints")
    return config, Context(seed=0, checkpoints=store, device="cpu", threads=1, cache_dir=case.cache_dir)


@contextmanager
def _recording() -> Iterator[None]:
    """Let the engine record its steps as on a GPU, with a recorder whose recordings do nothing."""

    def recorder(work: Callable[[], None], size: int) -> Callable[[], None]:
        work()

        def repeat() -> None:
            with record_function(STEP):
                pass

        return repeat

    def on_gpu(train: TrainConfig, device: str) -> Numerics:
        return replace(numerics_of(train, device), resident=True)

    with patch.object(Engine, "_recorder", lambda _: recorder), patch.object(finetune, "numerics_of", on_gpu):
        yield


def host_work(events: Iterable[Any]) -> list[HostWork]:
    """Sum up what the profiler saw between one call of the optimiser's step and the next."""
    seen = list(events)
    starts = sorted(event.time_range.start for event in seen if event.name.startswith(STEP))
    outermost = sorted(
        (event for event in seen if _is_operator(event) and not any(map(_is_operator, _ancestors(event)))),
        key=lambda event: event.time_range.start,
    )
    begins = [event.time_range.start for event in outermost]
    found = []
    for start, end in itertools.pairwise(starts):
        inside = outermost[bisect.bisect_left(begins, start) : bisect.bisect_left(begins, end)]
        busy = sum(event.time_range.elapsed_us() for event in inside)
        waits = sum(event.name == WAIT for event in inside)
        found.append(HostWork((end - start - busy) / 1e3, len(inside), waits))
    return found


def _is_operator(event: Any) -> bool:
    return str(event.name).startswith("aten::")


def _ancestors(event: Any) -> Iterable[Any]:
    while (event := event.cpu_parent) is not None:
        yield event


def table(steps: dict[str, HostWork], earlier: dict[str, HostWork]) -> str:
    """The figures of one step as a Markdown table."""
    lines = ["| model | outside operators | operators | waits |", "|---|---:|---:|---:|"]
    for model, work in steps.items():
        if model in earlier:
            lines.append(_line(f"{model}, earlier", earlier[model]))
        lines.append(_line(model, work))
    return "\n".join(lines)


def _line(name: str, work: HostWork) -> str:
    return f"| {name} | {work.outside_ms:.1f} ms | {work.operators:,.0f} | {work.waits:.1f} |"


if __name__ == "__main__":
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)
    sys.exit(main())
