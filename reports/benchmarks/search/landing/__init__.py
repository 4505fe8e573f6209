"""Landing: a search in which a free worker may finish a trial that ASHA stopped. Only the benchmark uses it."""
