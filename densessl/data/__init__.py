"""Unlabelled images, region masks, views, and the built-in sample."""
