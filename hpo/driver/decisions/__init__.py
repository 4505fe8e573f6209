"""What the conductor decides with: which trials run and come again, which nodes get them, when a study ends.

Never: imports Ray, or calls the conductor.
"""
