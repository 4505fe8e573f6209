"""What one trial gets, and how many trials fit on the nodes that Ray has."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpo.driver.ray_backend.cluster import ray_session
from hpo.errors import UsageError
from hpo.processes import usable_cpus
from hpo.spec.study import Spec


@dataclass(frozen=True)
class Slots:
    """What one trial gets, and how many trials run at once."""

    cpus: float
    gpus: float
    device: str
    concurrency: int


def plan_slots(spec: Spec) -> Slots:
    """Plan the slots from the nodes that Ray sees.

    Raises:
        UsageError: no single node has what one trial asks for.
    """
    import ray

    return _slots_on([node["Resources"] for node in ray.nodes() if node["Alive"]], spec)  # type: ignore[no-untyped-call]


def survey(spec: Spec) -> Slots:
    """As `plan_slots`, but without starting Ray: only a cluster is asked, this machine's resources are counted.

    Raises:
        UsageError: as `plan_slots`.
        InfrastructureError: the cluster cannot be reached.
    """
    if spec.ray.cluster():
        with ray_session(spec, verbose=False):
            return plan_slots(spec)
    from trainers.devices import gpu_count

    return _slots_on([{"CPU": float(usable_cpus()), "GPU": float(gpu_count())}], spec)


def room(slots: Slots) -> dict[str, int]:
    """How many trials fit on each node that is alive, by id; nodes that are too small for one are left out."""
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    fits = {node["NodeID"]: _fit(node["Resources"], slots.cpus, slots.gpus) for node in nodes}
    return {node: count for node, count in fits.items() if count}


def _slots_on(nodes: list[dict[str, float]], spec: Spec) -> Slots:
    most_gpus = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
    device = spec.resources.device
    if device == "auto":
        device = "cuda" if most_gpus and spec.resources.gpus != 0 else "cpu"
    asked = spec.resources.gpus
    gpus = (1.0 if device == "cuda" else 0.0) if asked == "auto" else float(asked)
    cpus = spec.resources.cpus
    fits = [_fit(node, cpus, gpus) for node in nodes]
    if not sum(fits):
        most_cpus = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
        raise UsageError(
            f"resources: a trial needs {cpus:g} CPUs and {gpus:g} GPUs, but no node has that many "
            f"(at most {most_cpus:g} CPUs and {most_gpus:g} GPUs on a node); lower resources.cpus or resources.gpus"
        )
    wanted = spec.concurrency if spec.concurrency != "auto" else sum(fits)
    return Slots(cpus, gpus, device, min(int(wanted), sum(fits)))


def _fit(node: dict[str, float], cpus: float, gpus: float) -> int:
    by_cpu = math.floor(node.get("CPU", 0.0) / cpus + 1e-9)
    if not gpus:
        return by_cpu
    available = node.get("GPU", 0.0)
    # A fraction must fit on one GPU: 0.4 fits twice on each, not five times on two.
    by_gpu = math.floor(available / gpus) if gpus >= 1 else int(available) * math.floor(1 / gpus + 1e-9)
    return min(by_cpu, by_gpu)
