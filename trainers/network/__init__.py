"""The network of a trial: models from timm, their weights, batch normalisation and averaged weights.

Never: trains a network (`trainers.loop` does) or reads a data set.
"""
