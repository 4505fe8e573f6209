"""`python -m hpo.driver.ray_backend.probe`: start or join Ray as a study would, print what it has room for, end.

A program of its own, so that a Ray that does not come up can be given up on.
"""

from __future__ import annotations

from hpo.driver.ray_backend.cluster import ray_session
from hpo.driver.ray_backend.slots import plan_slots
from hpo.spec.study import Spec


def main() -> None:
    """Prints one line. Raises InfrastructureError or UsageError where a study could not run either."""
    spec = Spec(study="probe", space={})
    with ray_session(spec, verbose=False):
        slots = plan_slots(spec)
    print(f"room for {slots.concurrency} trials of one CPU at once, on {slots.device}")


if __name__ == "__main__":
    main()
