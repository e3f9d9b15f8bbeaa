"""How far apart two backbones are on the same validation images, and how sure that is.

The images are drawn anew, with replacement, the same for both (a paired bootstrap, Efron 1979): the
interval says what other images of this kind would have shown. It says nothing about other
trainings of the same backbones; a benchmark with seeds does.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

RESAMPLES = 2000
CHUNK = 250         # resamples at a time
INTERVAL = 95       # percent
COUNTS = 'by image'     # in what a probe finds: (images, 3, classes), or (images,) whether right


def paired_difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Compare two backbones image by image.

    Args:
        ours, theirs: (images, 3, classes), of each image the pixels of each class that are right,
            that have it and that were given it: compared by mIoU; or (images,) whether the class
            of the image is right: compared by accuracy.

    Returns:
        Of the score, in percent points: ours − theirs, and the ends of its interval.
    """
    assert ours.shape == theirs.shape, 'the same images, in the same order'
    rng, number, found = np.random.default_rng(0), len(ours), []
    for start in range(0, RESAMPLES, CHUNK):
        drawn = rng.multinomial(number, np.full(number, 1 / number),
                                size=min(CHUNK, RESAMPLES - start)).astype(np.float64)
        found.append(score(drawn, ours) - score(drawn, theirs))
    low, high = np.percentile(np.concatenate(found), [(100 - INTERVAL) / 2, (100 + INTERVAL) / 2])
    whole = np.ones((1, number))
    return float((score(whole, ours) - score(whole, theirs))[0]), float(low), float(high)


def score(weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The score in percent of each resample: mIoU or accuracy.

    Args:
        weights: (R, images), how often each image was drawn; counts: see
            :func:`paired_difference`.

    Returns:
        (R,).
    """
    sums = (weights @ counts.reshape(len(counts), -1).astype(np.float64)).reshape(
        len(weights), *counts.shape[1:])
    if counts.ndim == 1:
        return 100 * sums / weights.sum(1)
    both, true, given = sums[:, 0], sums[:, 1], sums[:, 2]
    union = true + given - both                       # (R, classes); 0 where a class is not there
    iou = np.divide(both, union, out=np.full_like(both, np.nan), where=union > 0)
    return 100 * np.nanmean(iou, axis=1)


def differences(results: Sequence[dict[str, Any]], counts: Sequence[np.ndarray]
                ) -> list[dict[str, Any]]:
    """Each of several probed backbones against the first, for a report: plain values.

    Args:
        results: as the probe lists them. counts: of each of them, by image.
    """
    lines = []
    for line, own in zip(results[1:], counts[1:], strict=True):
        difference, low, high = paired_difference(own, counts[0])
        lines.append({'backbone': line['backbone'], 'against': results[0]['backbone'],
                      'score': next(iter(line['scores'])), 'difference': round(difference, 2),
                      'interval': [round(low, 2), round(high, 2)],
                      'is a difference': low > 0 or high < 0})
    return lines


def words(line: dict[str, Any]) -> str:
    """``'a against b: mIoU +1.20 (95 % interval +0.31 to +2.08: a difference)'``."""
    low, high = line['interval']
    known = 'a difference' if line['is a difference'] else 'no difference is shown'
    return (f'{line["backbone"]} against {line["against"]}: {line["score"]} '
            f'{signed(line["difference"], 2)} ({INTERVAL} % interval {signed(low, 2)} to '
            f'{signed(high, 2)}: {known})')


def signed(value: float, digits: int = 1) -> str:
    """``+4.2`` or ``−0.3``: with its sign, and so many digits behind the point."""
    return f'{value:+.{digits}f}'.replace('-', '−')
