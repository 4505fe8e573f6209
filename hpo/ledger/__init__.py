"""What is recorded of a study, and the one place that writes it: the Optuna storage.

Never: decides what a study does next.
"""
