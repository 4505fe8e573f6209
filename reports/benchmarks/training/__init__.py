"""The speed of the training engine: `python -m reports.benchmarks.training`."""
