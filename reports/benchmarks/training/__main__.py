"""`python -m reports.benchmarks.training`."""

from reports.benchmarks.training.benchmark import main

if __name__ == "__main__":
    main()
