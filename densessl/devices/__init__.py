"""Where networks run and how: backends, placement, memory, and batches on their way."""
