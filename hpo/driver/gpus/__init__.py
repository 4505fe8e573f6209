"""Several trials on one GPU of this machine: how many, by a measurement before the first trial, and MPS for them.

Never: lets a measurement that fails end a study, or touches an MPS daemon that others run. The rules themselves are
pure and lie in `hpo.gpu_sharing`.
"""
