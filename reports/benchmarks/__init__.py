"""Benchmarks of the search, the pruning and the training engine, with their published results."""
