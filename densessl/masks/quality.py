"""How well regions fit what people outlined: three measures against human segmentations.

Defined as in Stutz, Hermans & Leibe, *Superpixels: an evaluation of the state of the art*, CVIU
2018 (https://arxiv.org/abs/1612.01601), Section 5.
"""
from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

TOLERANCE = 2           # pixels by which a boundary may be off


@dataclass(frozen=True)
class Quality:
    """The measures of one label map; each a share in 0..1."""

    asa: float          # achievable segmentation accuracy, of which more is better
    recall: float       # boundary recall, of which more is better
    under: float        # undersegmentation error, of which less is better


def measure(labels: np.ndarray, truths: list[np.ndarray]) -> Quality:
    """The quality of ``labels`` (H, W), the mean over the people's ``truths``, each (H, W)."""
    scores = [(*overlap_scores(labels, truth), boundary_recall(labels, truth)) for truth in truths]
    asa, under, recall = np.mean(scores, axis=0)
    return Quality(float(asa), float(recall), float(under))


def overlap_scores(labels: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Achievable segmentation accuracy and undersegmentation error.

    The first is the share of pixels that are right when every region takes the true segment that
    it overlaps most. The second adds, for every true segment G and region S that meet,
    min(\\|S ∩ G\\|, \\|S − G\\|), per pixel (Neubert & Protzel 2012).
    """
    labels, truth = labels.ravel().astype(np.int64), truth.ravel().astype(np.int64)
    regions = int(labels.max()) + 1
    pairs, both = np.unique(truth * regions + labels, return_counts=True)   # |S ∩ G|, as they occur
    region = pairs % regions
    best = np.zeros(regions, np.int64)
    np.maximum.at(best, region, both)
    outside = np.bincount(labels, minlength=regions)[region] - both         # |S − G|
    return best.sum() / labels.size, np.minimum(both, outside).sum() / labels.size


def boundary_recall(labels: np.ndarray, truth: np.ndarray, tolerance: int = TOLERANCE) -> float:
    """The share of the true boundary pixels that have one of ``labels`` within ``tolerance``
    pixels in both directions; 1 if the truth has no boundary."""
    wanted = boundaries(truth)
    if not wanted.any():
        return 1.0
    near = cv2.dilate(boundaries(labels).astype(np.uint8),
                      np.ones((2 * tolerance + 1, 2 * tolerance + 1), np.uint8))
    return float(near[wanted].mean())


def boundaries(labels: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of which one of the four neighbors is of another region."""
    edge = np.zeros(labels.shape, bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge
