"""What leaves a study: configuration files, converted models, the retrained model.

Never: changes what the ledger holds of a trial.
"""
