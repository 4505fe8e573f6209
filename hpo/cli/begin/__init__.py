"""How a person begins: the version, the shipped search spaces, a first file.

Never: opens a home folder or a database; a beginner has none yet.
"""
