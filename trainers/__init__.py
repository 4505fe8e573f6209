"""What one trial does: data, augmentation, network, training loop, checkpoints, retraining, export formats.

Owns everything that imports torch, torchvision or timm. Importing the package itself loads none of them.

Never: imports `hpo`, Ray, Optuna, MLflow or pydantic. A trainer also runs on a GPU machine that has none of them.
"""
