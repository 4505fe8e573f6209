"""The page of a result: Markdown, with "not measured" in the place of every figure that is not there."""

from __future__ import annotations

import importlib.util
import json
import statistics
from dataclasses import fields
from pathlib import Path
from typing import Any

from reports.benchmarks.gpu import record, to_accuracy
from reports.benchmarks.gpu.packing import COUNTS
from reports.benchmarks.gpu.plan import SPEEDS
from reports.benchmarks.gpu.settings import Send, Settings
from reports.benchmarks.training import benchmark, full_training
from trainers.api import EpochMetrics
from trainers.files import replace_atomically

ABSENT = "not measured"


def run(settings: Settings, seconds: float, send: Send, *, path: str) -> None:
    """Write the page of the result in the file `path` (`write`)."""
    write(Path(path))


def write(path: Path) -> Path:
    """Write the page beside the JSON file `path`, and the learning curve if matplotlib is there; return its path."""
    content = json.loads(path.read_text(encoding="utf-8"))
    epochs = _epochs(content)
    curve = path.with_suffix(".png")
    if epochs and importlib.util.find_spec("matplotlib"):
        from reports.drawing.png import png

        title = f"{content['sections']['training']['results']['plan']['epochs']} epochs from random weights"
        curve.write_bytes(png(full_training.figure(epochs, title)))
    text = render(content, curve.name if epochs and curve.exists() else None)
    page = path.with_suffix(".md")
    replace_atomically(page, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return page


def render(content: dict[str, Any], curve: str | None = None) -> str:
    """Return the page of a result; `curve` is the file of the learning curves."""
    blocks = [
        ["# What one GPU does", "", *_machine(content)],
        ["## Speed of training", "", *_speeds(content)],
        [f"## From random weights to {100 * to_accuracy.TARGET:.0f} %", "", *_training(content, curve)],
        ["## Several trials on one GPU", "", *_packing(content)],
        ["## Tests", "", *_tests(content)],
        ["## Sections", "", *_sections(content)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _machine(content: dict[str, Any]) -> list[str]:
    settings, machine = content["settings"], content["machine"]
    lines = [
        f"`python -m reports.benchmarks.gpu --minutes {settings['minutes']:g}` writes this page.",
        "Its sections run in order of value, each in a process of its own, until the time is over.",
    ]
    if settings["tiny"]:
        lines.append("**This run was made with `--tiny`, to try the command itself: its figures mean nothing.**")
    if not machine.get("gpu"):
        return [*lines, "", f"GPU: {ABSENT}" + (f" ({content['why']})." if content.get("why") else ".")]
    memory = machine.get("gpu_memory")
    facts = [
        machine["gpu"] + (f" ({memory / 2**30:.0f} GiB)" if memory else ""),
        f"driver {machine['driver']}" if machine.get("driver") else "",
        f"{machine['processor']}, {machine['cores_used']} cores",
        f"torch {machine['torch']}, timm {machine['timm']}, Python {machine['python']}",
        f"measured {machine['measured']}",
    ]
    return [*lines, "", "; ".join(fact for fact in facts if fact) + "."]


def _rows(content: dict[str, Any]) -> list[benchmark.Row]:
    results = (section["results"] for section in content["sections"].values())
    return [benchmark.Row.of(result["row"]) for result in results if "row" in result]


def _speeds(content: dict[str, Any]) -> list[str]:
    rows = _rows(content)
    measured = {(row.case.model, row.case.size) for row in rows}
    missing = [("cuda", *case) for case in SPEEDS if case not in measured]
    return [
        "`limit`: bare steps that the host starts kernel by kernel. `graph limit`: the same step as one CUDA graph.",
        "`peer`: timm's own loader and loop. See [Training](../README.md#training) for the method. Ratios are medians",
        "of the ratios within a round.",
        "",
        benchmark.table(rows, None, missing),
    ]


def _epochs(content: dict[str, Any]) -> list[EpochMetrics]:
    results = content["sections"].get("training", {}).get("results", {})
    known = {one.name for one in fields(EpochMetrics)}
    lines = [result for key, result in results.items() if key.startswith("epoch ")]
    return [EpochMetrics(**{key: value for key, value in line.items() if key in known}) for line in lines]


def _training(content: dict[str, Any], curve: str | None) -> list[str]:
    results = content["sections"].get("training", {}).get("results", {})
    epochs = _epochs(content)
    if not epochs:
        return [f"{ABSENT.capitalize()}."]
    reached, planned = results.get("reached"), results["plan"]["epochs"]
    if reached:
        said = f"Reached in epoch {reached['epoch']} of {planned}, after {reached['seconds']:.1f} GPU-seconds."
    else:
        best = max(100 * (metrics.val_accuracy or 0) for metrics in epochs)
        said = f"Not reached: at most {best:.2f} % in {len(epochs)} of {planned} epochs."
    lines = [
        said + _eagerly(content, results["plan"]),
        "The seconds are those of the clock from the building of the network on, with recording and evaluation.",
        "The first epoch at the target ends the training; the accuracy is that of validation images.",
        "",
        "| epoch | px | seconds | training loss | validation accuracy | images/s |",
        "|---|---|---|---|---|---|",
    ]
    for metrics in epochs:
        since = results[f"epoch {metrics.epoch}"]["since_start"]
        lines.append(
            f"| {metrics.epoch} | {metrics.image_size} | {since:.1f} | {metrics.train_loss:.3f} | "
            f"{100 * (metrics.val_accuracy or 0):.2f} % | {metrics.images_per_second:,.0f} |"
        )
    return [*lines, "", f"![Learning curves]({curve})"] if curve else lines


def _eagerly(content: dict[str, Any], result: dict[str, Any]) -> str:
    """A sentence about figures of a GPU that are not those of graphs."""
    graphs = result.get("cuda_graphs", True) or content["settings"]["device"] == "cpu"
    return "" if graphs else " **Without CUDA graphs: their recording failed on this machine.**"


def _packing(content: dict[str, Any]) -> list[str]:
    results = content["sections"].get("several trials", {}).get("results", {})
    measured = [result["images_per_second"] for key, result in results.items() if key.startswith("round ")]
    sharing = results.get("sharing")
    lines = []
    if sharing:
        how = "with" if sharing["mps"] else "without"
        eagerly = _eagerly(content, results.get("processes", {}))
        lines = [f"{sharing['model']} at {sharing['size']} px, {how} NVIDIA's MPS: {sharing['why']}.{eagerly}", ""]
    lines += ["| trials at once | images/s together | of one trial | rounds |", "|---|---|---|---|"]
    for count in map(str, COUNTS):
        rates = [rates[count] for rates in measured if count in rates]
        ratios = [rates[count] / rates["1"] for rates in measured if count in rates]
        cells = [f"{statistics.median(rates):,.0f}", f"{statistics.median(ratios):.2f}"] if rates else [ABSENT, ""]
        lines.append(f"| {count} | {' | '.join(cells)} | {len(rates) or ''} |")
    return lines


def _tests(content: dict[str, Any]) -> list[str]:
    found = {}
    for section in content["sections"].values():
        found.update({key: result for key, result in section["results"].items() if "outcome" in result})
    if not found:
        return [f"{ABSENT.capitalize()}."]
    outcomes = [result["outcome"] for result in found.values()]
    counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in sorted(set(outcomes)))
    bad = {name: result for name, result in found.items() if result["outcome"] not in ("passed", "skipped")}
    lines = [f"- `{name}`: {result['outcome']}. {_last_line(result.get('why', ''))}" for name, result in bad.items()]
    return [f"{counts}.", "", *lines] if lines else [f"{counts}."]


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def _sections(content: dict[str, Any]) -> list[str]:
    lines = ["| section | state | seconds | allowed | why |", "|---|---|---|---|---|"]
    for name, section in content["sections"].items():
        state = "cut with the command" if section["state"] == record.RUNNING else section["state"]
        last = next((f": {line}" for line in reversed(section.get("lines", [])) if line.strip()), "")
        why = (section["why"] + last).replace("|", "\\|")
        cells = [name, state, str(section.get("seconds", "")), str(section.get("allowed_seconds", "")), why]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
