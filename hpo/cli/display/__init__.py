"""What a terminal shows: tables, progress, the live view.

Never: changes a study.
"""
