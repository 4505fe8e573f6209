"""`python -m reports.benchmarks.search`."""

from reports.benchmarks.search.comparison import main

if __name__ == "__main__":
    raise SystemExit(main())
