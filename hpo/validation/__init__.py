"""From YAML text and overrides to a valid `Spec`; every broken rule is reported at once.

Never: opens a ledger, starts anything.
"""
