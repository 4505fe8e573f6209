"""The network of a trial: models from timm, their weights, batch normalisation and averaged weights.

Never: trains; `trainers.loop` does.
"""
