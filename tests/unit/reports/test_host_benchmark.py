"""The count of what the host does in a training step."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from reports.benchmarks.training import host


def test_only_outermost_operators_and_true_waits_are_counted() -> None:
    weight = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1, foreach=False)
    weight.grad = torch.ones(3)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(3):
            optimizer.step()
            torch.ones(3).sum().item()  # `ones` calls `empty` and `fill_`
    steps = host.host_work(profiled.events())
    assert [(work.operators, work.waits) for work in steps] == [(4, 1), (4, 1)], "add_, ones, sum, item"
    assert all(0 < work.outside_ms < 1000 for work in steps)


def test_the_command_writes_the_page_with_the_earlier_figures_beside(tmp_path: Path) -> None:
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps({"steps": {"test_efficientnet": {"outside_ms": 99.0, "operators": 1, "waits": 2}}}))
    found = tmp_path / "host.json"
    command = ["--models", "test_efficientnet", "--recorded", "--json", str(found), "--earlier", str(earlier)]
    assert host.main(command) == 0
    work = json.loads(found.read_text())["steps"]["test_efficientnet"]
    assert work["waits"] < 0.5, "the host reads a number from the device in every step"
    assert work["operators"] > 100
    recorded = json.loads(found.read_text())["steps"]["test_efficientnet, recorded"]
    assert recorded["operators"] < work["operators"] / 3, "what the graph repeats is not counted"
    page = found.with_suffix(".md").read_text()
    assert "| test_efficientnet, earlier | 99.0 ms | 1 | 2.0 |" in page
    assert f"| {work['outside_ms']:.1f} ms | {work['operators']:,.0f} |" in page
