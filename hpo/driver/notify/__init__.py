"""Telling a command or a webhook what happens to a study.

Never: lets a receiver delay the training, or the end of the study by more than a few seconds; shows the address of a
webhook anywhere.
"""
