"""The process that talks to MLflow while a study runs, and what its driver and it tell each other.

Never: imports MLflow into the driver. MLflow costs more than 100 MB of memory and milliseconds of the interpreter for
each trial, and the driver's interpreter is what all GPUs of a study wait for.
"""
