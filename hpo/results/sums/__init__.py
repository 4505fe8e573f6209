"""Sums over the trials of a study. A change of one trial costs the same however many there are.

Never: looks at a trial that has not changed.
"""
