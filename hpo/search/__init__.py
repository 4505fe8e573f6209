"""Which configuration is tried next, and which trial is stopped early. Pure algorithms.

Never: reads a clock, a database or Ray's state.
"""
