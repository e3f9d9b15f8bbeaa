"""Region masks: the contract of a generator, and the store in which masks are kept."""
