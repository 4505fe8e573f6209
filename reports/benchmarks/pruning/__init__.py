"""How well a rung predicts the end of a training: `python -m reports.benchmarks.pruning`."""
