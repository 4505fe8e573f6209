"""Search tools of others on the same learning curves, each in an environment of its own."""
