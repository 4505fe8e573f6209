"""`python -m reports.benchmarks.pruning`."""

from reports.benchmarks.pruning.benchmark import main

if __name__ == "__main__":
    raise SystemExit(main())
