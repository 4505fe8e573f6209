"""The training loop of a trial: optimiser steps, evaluation, automatic batch size, compilation and CUDA graphs.

Never: reads or writes a file.
"""
