"""The record of a study, kept in the Optuna storage, and the only code that writes it.

Never: decides what a study does next.
"""
