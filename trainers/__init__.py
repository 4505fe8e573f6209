"""What one trial does: data, augmentation, schedule, model, the training loop, retraining.

Nothing here imports Ray, Optuna, MLflow or `hpo`, so a trainer can be read, tested, benchmarked and
reused alone. Importing this package stays cheap: torch and timm load with the modules that need them.
"""
