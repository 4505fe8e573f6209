"""MLflow as a view of the ledger. The only package that imports `mlflow`.

Never: holds a fact that the ledger lacks. Whatever MLflow loses can be written again from the ledger.
"""
