"""Images of different sizes, in batches of one size."""
from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator


def groups_of_one_size(sizes: Iterable[Hashable], most: int) -> Iterator[list[int]]:
    """The positions of images by their ``sizes``: those that are alike, at most ``most`` at a
    time."""
    groups: dict[Hashable, list[int]] = {}
    for i, size in enumerate(sizes):
        groups.setdefault(size, []).append(i)
    for group in groups.values():
        yield from (group[start:start + most] for start in range(0, len(group), most))
