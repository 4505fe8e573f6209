"""`python -m reports.benchmarks.scale`."""

from reports.benchmarks.scale.benchmark import main

if __name__ == "__main__":
    raise SystemExit(main())
