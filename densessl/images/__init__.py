"""Unlabelled images: lists of them, in folders, files and tar shards."""
