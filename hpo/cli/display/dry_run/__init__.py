"""What a command would do and what that costs, before it spends anything.

Never: writes to a home folder, a database or a tracking server.
"""
