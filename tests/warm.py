"""Imports that every driver needs, done once in the process that `tests.drivers` forks them from."""

import os

os.environ.setdefault("RAY_AUTH_MODE", "token")  # read when Ray is imported


import hpo.changes
import hpo.cli
import hpo.config
import hpo.launch
import hpo.sampler
import hpo.searcher
import hpo.view
import hpo.worker  # noqa: F401
