"""Search policies on recorded fine-tunings of the shipped studies: `python -m reports.benchmarks.mission`."""
