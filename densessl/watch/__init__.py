"""Watching a run learn: its health, a probe on labelled images, and alarms in words."""
