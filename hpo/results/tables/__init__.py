"""The trials and the epochs of a study as tables for programs: which columns there are, and how they are written.

Never: reads a ledger, or makes a table for people; the terminal and the report have their own.
"""
