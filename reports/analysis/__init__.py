"""Numbers of a report, computed from the records of a study.

Never: draws.
"""
