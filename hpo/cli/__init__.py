"""The commands, and in `display` what a terminal shows.

Never: decides anything about a study; the commands call the other packages.
"""


def main() -> None:
    """Entry point of the `hpo` script; importing this package loads nothing."""
    from hpo.cli.app import main as run_command

    run_command()
