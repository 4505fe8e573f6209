"""What a study of many trials costs its driver: `python -m reports.benchmarks.scale`."""
