"""The figures of a report, one module per figure.

Never: writes a file.
"""
