"""What one GPU does, shown by one command in a few minutes: `python -m reports.benchmarks.gpu`."""
