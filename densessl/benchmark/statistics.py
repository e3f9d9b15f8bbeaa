"""What a few seeds can tell: means, spreads, and whether two of them differ."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.05    # of all tests of a benchmark together: the chance of any false alarm


@dataclass(frozen=True)
class Spread:
    """``n`` scores: their mean and their standard deviation with n − 1 (None below two)."""

    n: int
    mean: float
    std: float | None


@dataclass(frozen=True)
class PairedTest:
    """A two-sided paired t-test (Student 1908) of two lists of scores, seed by seed.

    Attributes:
        n: pairs.
        difference: mean of ours − theirs.
        half_width: half of its 95 % confidence interval; None where there is no test.
        p: the chance of a difference this large, either way, if there were none; None where the
            scores do not allow a test, and ``reason`` says why.
    """

    n: int
    difference: float
    half_width: float | None = None
    p: float | None = None
    reason: str = ''


def spread(scores: Sequence[float]) -> Spread:
    """Mean and standard deviation of at least one score."""
    values = np.asarray(scores, float)
    std = float(values.std(ddof=1)) if len(values) > 1 else None
    return Spread(len(values), float(values.mean()), std)


def interval(scores: Sequence[float]) -> tuple[float, float | None]:
    """Mean of at least one score, and half of its 95 % confidence interval by Student's t (None
    below two)."""
    found = spread(scores)
    if found.std is None:
        return found.mean, None
    return found.mean, float(stats.t.ppf(0.975, found.n - 1)) * found.std / math.sqrt(found.n)


def paired_test(ours: Sequence[float], theirs: Sequence[float]) -> PairedTest:
    """Test whether two lists of scores differ; ``ours[i]`` and ``theirs[i]`` share a seed.

    The same difference at every seed leaves nothing to estimate the noise from (with two rounded
    scores that happens by chance), so no p is given instead of p = 0.
    """
    assert len(ours) == len(theirs) > 0, 'scores must come in pairs'
    differences = np.subtract(ours, theirs)
    n, mean = len(differences), float(np.mean(differences))
    if not math.isfinite(mean):
        return PairedTest(n, mean, reason='a score is not a number: nothing can be said')
    if n < 2:
        return PairedTest(n, mean, reason='one seed: nothing can be said')
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    if error <= 1e-9 * max(1.0, np.abs([ours, theirs]).max()):
        return PairedTest(n, mean, reason='the same at every seed: no test is possible')
    return PairedTest(n, mean, float(stats.t.ppf(0.975, n - 1)) * error,
                      float(stats.ttest_rel(ours, theirs).pvalue))


def paired_by_seed(ours: Mapping[int, float], theirs: Mapping[int, float]) -> PairedTest | None:
    """:func:`paired_test` of scores by seed, over the seeds that both have, if any."""
    seeds = sorted(set(ours) & set(theirs))
    if not seeds:
        return None
    return paired_test([ours[seed] for seed in seeds], [theirs[seed] for seed in seeds])


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several tests so that, compared with :data:`LEVEL`, the chance of any
    false alarm among them stays below it (Holm 1979), in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
