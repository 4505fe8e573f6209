"""Reads runs and curves from MLflow."""

from __future__ import annotations

from mlflow import MlflowClient
from mlflow.entities import Run


def runs(client: MlflowClient, name: str) -> list[Run]:
    """All runs of an experiment."""
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def points(client: MlflowClient, run: str, key: str) -> list[tuple[int, float]]:
    """Step and value of each point of a curve."""
    return sorted((point.step, point.value) for point in client.get_metric_history(run, key))
