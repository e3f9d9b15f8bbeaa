"""Fixtures of the tests of training."""
from starts import exported, foreign, resnet, started  # noqa: F401
