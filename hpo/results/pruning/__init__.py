"""What the pruning of a study cost, and where pruned trials would end, in units of its objective.

Never: decides what is pruned.
"""
