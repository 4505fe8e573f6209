"""This tool against the same search put together by hand: `python -m reports.benchmarks.by_hand`."""
