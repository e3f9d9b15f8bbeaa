"""Weights that a library publishes for its networks: downloaded only because the user asks."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PublishedWeights:
    """A file of weights that a library publishes.

    Attributes:
        address: where a browser gets it.
        license: as the library says it; empty if it does not.
        fetch: downloads it, unless it is in the library's cache, and returns where it is; raises
            OSError without a network.
    """

    address: str
    fetch: Callable[[], Path]
    license: str = ''
