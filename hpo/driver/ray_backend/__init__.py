"""Ray as the place where trials run. The only package that imports `ray`.

Never: decides whether a trial continues; the conductor does.
"""
