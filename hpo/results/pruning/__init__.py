"""What the pruning of a study cost, in units of its objective.

Never: decides what is pruned.
"""
