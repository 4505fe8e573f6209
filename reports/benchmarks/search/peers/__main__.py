"""`python -m reports.benchmarks.search.peers`."""

from reports.benchmarks.search.peers.benchmark import main

if __name__ == "__main__":
    raise SystemExit(main())
