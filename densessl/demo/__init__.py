"""The demo: the whole way on a built-in sample."""
