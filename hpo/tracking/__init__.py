"""MLflow as a view of the ledger. The only package that imports `mlflow`.

Never: holds a fact that the ledger lacks; what is lost in MLflow is written again from the ledger.
"""
