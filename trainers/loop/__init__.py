"""The training loop of a trial: optimiser steps, evaluation, automatic batch size, compilation and CUDA graphs.

Never: reads or writes a checkpoint, or decides which epochs to run; `trainers.finetune` and `trainers.retrain` do.
"""
