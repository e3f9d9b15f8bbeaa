"""The configs, found by name wherever densessl is installed."""
