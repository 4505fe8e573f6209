"""The orchestrator: specification, search, scheduling, tracking, records, export and the command line.

Importing this package costs nothing: Ray, Optuna, MLflow and pydantic load with the modules that need them.
"""
