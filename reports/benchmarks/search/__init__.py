"""Search policies compared on learning curves: `python -m reports.benchmarks.search`."""
