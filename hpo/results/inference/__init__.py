"""What the scores of a few repeated trainings say: differences, simultaneous intervals, a race, a probability.

Never: knows a study, a trainer or an objective; it sees scores by configuration and seed only.
"""
