"""What a study may say: frozen models and pure functions of them.

Never: reads a file, opens a database, asks Optuna or Ray.
"""
