"""Permutation sets: how many, how far apart, the same everywhere, kept once made."""
from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from densessl.errors import UsageError
from densessl_plugins.pretext import permutations
from densessl_plugins.pretext.permutations import far_apart, permutation_set


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('DENSESSL_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'permutations'


def distances(chosen):
    """Hamming distances of all pairs."""
    return [int(np.sum(a != b)) for a, b in itertools.combinations(chosen, 2)]


@pytest.mark.parametrize('number, least', [(9, 9), (32, 7), (64, 7), (100, 6)])
def test_size_uniqueness_and_least_distance(number, least):
    chosen = permutation_set(9, number)
    assert chosen.shape == (number, 9) and chosen.dtype == np.int64
    assert (np.sort(chosen, 1) == np.arange(9)).all()
    assert len({tuple(row) for row in chosen}) == number
    assert min(distances(chosen)) >= least


@pytest.mark.slow
def test_the_full_set():
    chosen = permutation_set(9, 2000)
    assert len({tuple(row) for row in chosen}) == 2000
    assert min(distances(chosen)) == 4 and np.mean(distances(chosen)) == pytest.approx(8.004, 1e-3)


def test_equals_the_naive_greedy_choice():
    every = list(itertools.permutations(range(4)))
    chosen = [every[0]]
    while len(chosen) < 24:
        def worth(candidate):
            d = [sum(a != b for a, b in zip(candidate, other, strict=True)) for other in chosen]
            return min(d), sum(d)
        chosen.append(max(every, key=worth))    # the first of equals
    assert far_apart(4, 24).tolist() == [list(row) for row in chosen]


def test_smaller_sets_are_the_beginning_of_larger_ones():
    assert np.array_equal(permutation_set(5, 30)[:12], permutation_set(5, 12))


def test_kept_and_made_again_when_damaged(cache, monkeypatch):
    first = permutation_set(5, 10)
    path, = cache.iterdir()
    monkeypatch.setattr(permutations, 'far_apart', lambda *_: pytest.fail('made again'))
    assert np.array_equal(permutation_set(5, 10), first)
    monkeypatch.undo()
    monkeypatch.setenv('DENSESSL_CACHE', str(cache.parent))
    path.write_bytes(path.read_bytes()[:50])
    assert np.array_equal(permutation_set(5, 10), first)
    assert np.array_equal(np.load(path), first)


def test_an_unwritable_cache_stops_nothing(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('DENSESSL_CACHE', str(tmp_path / 'file'))
    assert permutation_set(4, 6).shape == (6, 4)


@pytest.mark.parametrize('tiles, number', [(9, math.factorial(9) + 1), (9, 1), (10, 5), (1, 2)])
def test_impossible_sets_are_refused(tiles, number):
    with pytest.raises(UsageError, match=f'{number} permutations of {tiles} tiles'):
        permutation_set(tiles, number)
