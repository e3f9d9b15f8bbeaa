"""Files and folders that a run writes: whole or not at all, and one process at a time."""
