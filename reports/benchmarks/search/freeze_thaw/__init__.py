"""A search that pauses trials and goes on with them (after Swersky et al., "Freeze-Thaw", arXiv 1406.3896)."""
