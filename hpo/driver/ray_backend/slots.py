"""What one trial gets, how many trials fit on the nodes that Ray has, and which of them another study may use."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from hpo.driver.ray_backend.cluster import ray_session
from hpo.errors import UsageError
from hpo.gpu_sharing import Packing, per_trial
from hpo.processes import usable_cpus
from hpo.spec.study import Spec

REFRESH_S = 1.0
"""Shortest time, in seconds, between two questions to Ray about the cluster."""
STUDIES = "hpo-studies"
"""Ray's namespace of the actors that stand for the studies of a cluster."""
Node: TypeAlias = Mapping[str, Any]
"""An entry of `ray.nodes()`."""


@dataclass(frozen=True)
class Slots:
    """What one trial gets, and how many trials run at once."""

    cpus: float
    gpus: float
    device: str
    concurrency: int
    """As many fit now, and are wanted."""
    wanted: int | None = None
    """The setting `concurrency`; None for `auto`, which follows the cluster."""


def plan_slots(spec: Spec, packing: Packing | None = None) -> Slots:
    """Plan the slots from the nodes that Ray sees.

    Args:
        packing: how many trials share a GPU with `resources.gpus: auto`; None for whole ones.

    Raises:
        UsageError: no single node has what one trial asks for.
    """
    return _slots_on([node["Resources"] for node in _nodes() if node["Alive"]], spec, packing)


def survey(spec: Spec, packing: Packing | None = None) -> Slots:
    """As `plan_slots`, but without starting Ray: only a cluster is asked, this machine's resources are counted.

    Raises:
        UsageError: as `plan_slots`.
        InfrastructureError: the cluster cannot be reached.
    """
    if spec.ray.cluster():
        with ray_session(spec, verbose=False):
            return plan_slots(spec)
    from trainers.devices import gpu_count

    return _slots_on([{"CPU": float(usable_cpus()), "GPU": float(gpu_count())}], spec, packing)


class Room:
    """Where trials find room. However many trials begin and end, Ray is asked at most once in `REFRESH_S`."""

    def __init__(
        self,
        slots: Slots,
        presence: Callable[[], Sequence[str]] | None = None,
        own: str = "",
        nodes: Callable[[], Sequence[Node]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            presence: names of the studies of the cluster, see `present`; None where no other study can be.
            own: this study's name there.
            nodes: as `ray.nodes`.
        """
        self._slots = slots
        self.wanted = slots.wanted
        """As many trials are wanted at once; None for `auto`."""
        self._presence = presence
        self._own = own
        self._ask = nodes or _nodes
        self._clock = clock
        self._asked = -math.inf
        self._nodes: Sequence[Node] = ()
        self._part = (0.0, 1.0)

    def nodes(self) -> Sequence[Node]:
        """All nodes that Ray knows, dead ones too."""
        if self._clock() - self._asked >= REFRESH_S:
            self._nodes = self._ask()
            if self._presence is not None:
                self._part = part({self._own, *self._presence()}, self._own)
            self._asked = self._clock()
        return self._nodes

    def by_node(self) -> dict[str, int]:
        """How many trials fit on each node that is alive, by id; nodes that are too small for one are left out."""
        alive = [node for node in self.nodes() if node["Alive"]]
        fits = {node["NodeID"]: _fit(node["Resources"], self._slots.cpus, self._slots.gpus) for node in alive}
        return {node: count for node, count in fits.items() if count}

    def limit(self, fit: int) -> int:
        """How many trials may run at once where so many fit: no more than are wanted, and one at least.

        Where studies share a cluster, none takes more than its part. No trial is stopped for that: a study that has
        more begins no other until it has less.
        """
        begin, end = self._part
        part = math.floor(fit * end + 1e-9) - math.floor(fit * begin + 1e-9)
        return max(1, part if self.wanted is None else min(part, self.wanted))


def part(studies: set[str], own: str) -> tuple[float, float]:
    """The part of a cluster that a study may use, from and to which share of it; the parts fill the whole cluster.

    All get equal parts. What one does not want goes to the others.

    Args:
        studies: names as in `present`, which begin with the share that the study wants, 0 to 1.
    """
    begin = 0.0
    for index, name in enumerate(sorted(studies)):
        end = begin + min(float(name.split()[0]), (1.0 - begin) / (len(studies) - index))
        if name == own:
            return begin, end
        begin = end
    raise ValueError(f"{own} is not among the studies")


@contextmanager
def present(slots: Slots, cluster: bool) -> Iterator[Room]:
    """The room for a study, which other studies of the same cluster take into account while the block lasts.

    An actor that does nothing stands for the study, because Ray removes it with the driver however that ends.
    """
    if not cluster:
        yield Room(slots)
        return
    import ray
    from ray.util import list_named_actors

    fit = max(1, sum(Room(slots).by_node().values()))
    wish = 1.0 if slots.wanted is None else min(1.0, slots.wanted / fit)
    own = f"{wish:.6f} {secrets.token_hex(8)}"
    options = {"name": own, "namespace": STUDIES, "num_cpus": 0, "max_restarts": -1}
    study: Any = ray.remote(_Study).options(**options).remote()

    def names() -> list[str]:
        actors = list_named_actors(all_namespaces=True)
        return [actor["name"] for actor in actors if actor["namespace"] == STUDIES]

    try:
        yield Room(slots, names, own)
    finally:
        ray.kill(study)


class _Study:
    """Does nothing."""


def _nodes() -> Sequence[Node]:
    import ray

    return ray.nodes()  # type: ignore[no-untyped-call, no-any-return]


def _slots_on(nodes: list[dict[str, float]], spec: Spec, packing: Packing | None) -> Slots:
    most_gpus = max((node.get("GPU", 0.0) for node in nodes), default=0.0)
    device = spec.resources.device
    if device == "auto":
        device = "cuda" if most_gpus and spec.resources.gpus != 0 else "cpu"
    asked = spec.resources.gpus
    gpus = 0.0 if asked == "auto" and device == "cpu" else per_trial(asked, packing)
    cpus = spec.resources.cpus
    fits = [_fit(node, cpus, gpus) for node in nodes]
    if not sum(fits):
        most_cpus = max((node.get("CPU", 0.0) for node in nodes), default=0.0)
        raise UsageError(
            f"resources: a trial needs {cpus:g} CPUs and {gpus:g} GPUs, but no node has that many "
            f"(at most {most_cpus:g} CPUs and {most_gpus:g} GPUs on a node); lower resources.cpus or resources.gpus"
        )
    most = wanted(spec)
    return Slots(cpus, gpus, device, min(most or sum(fits), sum(fits)), most)


def wanted(spec: Spec) -> int | None:
    """How many trials are to run at once at most; None for `auto`."""
    return None if spec.concurrency == "auto" else int(spec.concurrency)


def _fit(node: dict[str, float], cpus: float, gpus: float) -> int:
    by_cpu = math.floor(node.get("CPU", 0.0) / cpus + 1e-9)
    if not gpus:
        return by_cpu
    available = node.get("GPU", 0.0)
    # A fraction must fit on one GPU: 0.4 fits twice on each, not five times on two.
    by_gpu = math.floor(available / gpus) if gpus >= 1 else int(available) * math.floor(1 / gpus + 1e-9)
    return min(by_cpu, by_gpu)
