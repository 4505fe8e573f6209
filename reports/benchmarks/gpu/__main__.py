"""`python -m reports.benchmarks.gpu`."""

from reports.benchmarks.gpu.command import main

if __name__ == "__main__":
    raise SystemExit(main())
