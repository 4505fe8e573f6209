"""What a recorded study says: the best trial, the Pareto front, the confirmation, the progress. Numbers and words.

Never: writes a file or a record.
"""
