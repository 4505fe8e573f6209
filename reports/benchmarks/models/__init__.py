"""Which of timm's families of classifiers can be trained: `python -m reports.benchmarks.models`."""
