"""Pretraining: from a config to a checkpoint."""
