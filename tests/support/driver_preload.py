"""Imports that every driver needs, done once in the process that `tests.support.drivers` forks them from."""

import os

os.environ.setdefault("RAY_AUTH_MODE", "token")  # read when Ray is imported

import hpo.cli.app
import hpo.cli.display.plain
import hpo.driver.ray_backend.searcher
import hpo.driver.ray_backend.trainable
import hpo.driver.run
import hpo.search.samplers
import hpo.validation.loader
import hpo.validation.revision  # noqa: F401
import trainers.network.feasibility  # noqa: F401 - torch and timm, which every command on the shipped trainer loads
