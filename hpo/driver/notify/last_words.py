"""`python -m hpo.driver.notify.last_words HOME NAME`: tells the receivers of a study that its driver was killed."""

from __future__ import annotations

import sys
from pathlib import Path

from hpo.driver.notify.notifier import Notifier
from hpo.home import Home
from hpo.ledger.reader import read_study

KILLED = "its driver has ended without a word: it was killed, for example for want of memory, or told twice to stop"


def tell(home: Home, name: str) -> None:
    """Tell it, as the ledger knows the study.

    Raises:
        HpoError: the ledger cannot be read, or the environment lacks the address.
    """
    study = read_study(home, name)
    notifier = Notifier(study.spec.notify, lambda: study)
    notifier.end(study, RuntimeError(KILLED))
    notifier.close()


if __name__ == "__main__":
    tell(Home.at(Path(sys.argv[1])), sys.argv[2])
