"""`python -m reports.benchmarks.mission`."""

from reports.benchmarks.mission.comparison import main

if __name__ == "__main__":
    raise SystemExit(main())
