"""Permutations that are far from each other, chosen greedily, once, and kept."""
from __future__ import annotations

import itertools
import math

import numpy as np

from densessl.errors import RunFailed, UsageError
from densessl.files.folders import cache_root
from densessl.files.writing import atomic_path

VERSION = 1    # a change of the choice below must change it: kept sets are found by it


def permutation_set(tiles: int, number: int) -> np.ndarray:
    """The permutations of ``tiles`` places that a jigsaw may be shuffled by; the same on every
    machine. They are computed once and kept in :func:`densessl.files.folders.cache_root`.

    Returns:
        (number, tiles) int64; row i is the i-th class, and the first rows of a set are the smaller
        sets.

    Raises:
        UsageError: more permutations than there are, or too many tiles to list them all.
    """
    if not 2 <= tiles <= 9 or not 2 <= number <= math.factorial(tiles):
        raise UsageError(f'{number} permutations of {tiles} tiles: tiles must be 2 to 9 and there '
                         f'must be 2 to tiles! permutations')
    path = cache_root() / 'permutations' / f'v{VERSION}-{tiles}-{number}.npy'
    try:
        kept = np.load(path)
        if kept.shape == (number, tiles):
            return kept.astype(np.int64)
    except (OSError, ValueError, EOFError):
        pass   # missing, or no longer whole: made again
    chosen = far_apart(tiles, number)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as unfinished, unfinished.open('wb') as file:
            np.save(file, chosen)
    except (OSError, UsageError, RunFailed):
        pass   # a cache that cannot be written costs seconds at the next start, not this run
    return chosen.astype(np.int64)


def far_apart(tiles: int, number: int) -> np.ndarray:
    """Choose permutations greedily: the next is the one whose *least* Hamming distance to those
    chosen is largest and, among equals, whose *mean* distance is.

    The mean alone is Algorithm 1 of Noroozi & Favaro 2016; with 2000 permutations of 9 it leaves
    pairs that differ in two places only, this in no fewer than four, at the same mean (8.004).

    Returns:
        (number, tiles) uint8, the identity first.
    """
    permutations = np.array(list(itertools.permutations(range(tiles))), np.uint8)
    permutations = permutations.T.copy()                   # (tiles, n)
    least = np.full(permutations.shape[1], tiles, np.uint8)   # distance to the nearest one chosen
    total = np.zeros(permutations.shape[1], np.int32)
    chosen = [0]
    while len(chosen) < number:
        distance = np.zeros_like(least)
        for places, place in zip(permutations, permutations[:, chosen[-1]], strict=True):
            distance += places != place
        np.minimum(least, distance, out=least)
        total += distance
        farthest = np.flatnonzero(least == least.max())
        chosen.append(int(farthest[total[farthest].argmax()]))
    return permutations.T[chosen]
