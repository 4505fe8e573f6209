"""`python -m hpo`: the command line where the `hpo` script is not on the path."""

from hpo.cli import main

main()
