"""What the documents in JSON contain, key by key: the one source of their JSON Schema.

Never: makes a document. Tests compare what the commands print with these descriptions, in both directions.
"""
