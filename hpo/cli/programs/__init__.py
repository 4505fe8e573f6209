"""What other programs read: documents in JSON, and a server for agents.

Never: decides what a study says; `hpo.results` and the views do.
"""
