"""The benchmark: many fine-tuning runs, compared."""
