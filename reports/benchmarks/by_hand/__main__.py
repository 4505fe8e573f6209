"""`python -m reports.benchmarks.by_hand`."""

from reports.benchmarks.by_hand.comparison import main

if __name__ == "__main__":
    raise SystemExit(main())
