"""`python -m reports.benchmarks.race`."""

from reports.benchmarks.race.command import main

if __name__ == "__main__":
    raise SystemExit(main())
