"""`python -m hpo.driver.ray_backend.probe`: start or join Ray as a study does, and print how many trials fit.

It is a program of its own, so that the caller can end it if Ray does not start.
"""

from __future__ import annotations

from hpo.driver.ray_backend.cluster import ray_session
from hpo.driver.ray_backend.slots import plan_slots
from hpo.spec.study import Spec


def main() -> None:
    """Print one line. Raises InfrastructureError or UsageError if a study could not run either."""
    spec = Spec(study="probe", space={})
    with ray_session(spec, verbose=False):
        slots = plan_slots(spec)
    print(f"room for {slots.concurrency} trials of one CPU at once, on {slots.device}")


if __name__ == "__main__":
    main()
