"""Probes: how good a backbone's features are for a task."""
