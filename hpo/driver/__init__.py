"""One study run to its end: decisions, budget, `run`, `resume` and `confirm`.

Never: imports Ray outside of `ray_backend`, or prints.
"""
