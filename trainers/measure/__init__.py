"""What a training needs of a machine, measured on real steps before it begins: time, memory, share of a GPU.

Never: trains a trial.
"""
