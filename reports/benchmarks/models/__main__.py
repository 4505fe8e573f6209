"""`python -m reports.benchmarks.models`: try every family, and write `families.json` and `reports/docs/models.md`."""

from __future__ import annotations

import argparse
import warnings

import timm

from reports.benchmarks.models import page
from reports.benchmarks.models.families import Family, examine, smallest


def main() -> int:
    """Try the families, one after another; with names only those, in the recorded list."""
    parser = argparse.ArgumentParser(prog="python -m reports.benchmarks.models", description=main.__doc__)
    parser.add_argument("families", nargs="*", help="modules of timm, e.g. swin_transformer; default: all")
    chosen = parser.parse_args().families
    warnings.simplefilter("ignore")
    found = {family.module: family for family in page.read()} if chosen else {}
    for module in chosen or timm.list_modules():
        found[module] = family = Family(module, *smallest(module), *examine(smallest(module)[0]))
        print(f"{module}: {family.model}: {family.outcome} {family.reason}", flush=True)
        page.write(sorted(found.values()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
