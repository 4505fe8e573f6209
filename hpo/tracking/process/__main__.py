"""`python -m hpo.tracking.process DESCRIPTOR`: started by `hpo.tracking.process.child`, which holds the other end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from multiprocessing.connection import Connection

from hpo.tracking.process.child import SIGNALS
from hpo.tracking.process.writer import serve

# A terminal and a batch system send signals to all processes of a study. What they mean is the driver's to decide.
for number in SIGNALS:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
logging.disable(logging.WARNING)  # what a person must know is sent to the driver
warnings.simplefilter("ignore")
# Any call to MLflow may be cut off, so nothing needs to be finished when the driver is gone.
serve(Connection(int(sys.argv[1])), orphaned=lambda: os._exit(1))
