"""A whole study by this tool, and by the three libraries by hand: `python -m reports.benchmarks.race`."""
