"""Dense features as pictures: colors by one basis over time, regions, likeness to a cell.

Features are (N, h, w, C) arrays of N images. Each cell's vector is brought to length 1, so that a
picture shows directions alone, as cosine similarities do. Nothing here draws from a generator.
"""
from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from densessl.pictures.figures import region_color

FAINT = 1e-3        # deviations of unit vectors below this are rounding, not content
ROUNDS = 20


def unit(features: np.ndarray) -> np.ndarray:
    """(…, C) float32: vectors of length 1; those that are 0 or not finite become 0."""
    vectors = np.nan_to_num(features.astype(np.float32), posinf=0, neginf=0)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def color_basis(steps: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The directions in which unit features vary most at any of several steps: the principal
    components of all of them together, each step about its own mean.

    Args:
        steps: (N, h, w, C) unit features, one array a step.

    Returns:
        The directions (C, 3), and the deviation (3,) along each that has full color.
    """
    rows = np.concatenate([_centered(one).reshape(-1, one.shape[-1]) for one in steps])
    wide = min(8, *rows.shape)
    start = np.cos(np.outer(np.arange(1, rows.shape[1] + 1), np.arange(1, wide + 1)))
    basis = np.linalg.qr(start)[0].astype(np.float32)
    for _ in range(ROUNDS):     # orthogonal iteration: the few largest of up to 2048 components
        basis = np.linalg.qr(rows.T @ (rows @ basis))[0]
    _, _, turns = np.linalg.svd(rows @ basis, full_matrices=False)
    basis = basis @ turns.T[:, :3]
    basis = np.pad(basis, ((0, 0), (0, 3 - basis.shape[1])))
    signs = np.sign(basis[np.abs(basis).argmax(0), np.arange(3)])
    basis = basis * np.where(signs == 0, 1, signs)
    return basis, np.maximum(np.percentile(np.abs(rows @ basis), 98, axis=0), FAINT)


def as_colors(features: np.ndarray, basis: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """(N, h, w, 3) uint8 RGB of unit features: gray where a cell is as the mean of its step."""
    directions, full = basis
    share = np.clip(_centered(features) @ directions / full, -1, 1)
    return np.round(127.5 + 127.5 * share).astype(np.uint8)


def k_means(features: np.ndarray, clusters: int) -> np.ndarray:
    """(N, h, w) cluster of each cell, over all images at once: Lloyd's algorithm from cells that
    are as far apart as possible, the first of them the farthest from the mean."""
    rows = features.reshape(-1, features.shape[-1])
    centers = rows.mean(0, keepdims=True)
    for i in range(min(clusters, len(rows))):
        farthest = rows[_distances(rows, centers).min(1).argmax()][None]
        centers = farthest if i == 0 else np.concatenate([centers, farthest])
    labels = _distances(rows, centers).argmin(1)
    for _ in range(ROUNDS):
        centers = np.stack([rows[labels == k].mean(0) if (labels == k).any() else centers[k]
                            for k in range(len(centers))])
        labels, before = _distances(rows, centers).argmin(1), labels
        if (labels == before).all():
            break
    return labels.reshape(features.shape[:-1])


def renumbered(labels: np.ndarray, before: np.ndarray | None, clusters: int) -> np.ndarray:
    """``labels`` with the numbers by which most cells keep the one they had ``before``."""
    if before is None or before.shape != labels.shape:
        return labels
    from scipy.optimize import linear_sum_assignment  # 0.4 s that training does without
    shared = np.zeros((clusters, clusters), int)
    np.add.at(shared, (labels.ravel(), before.ravel()), 1)
    return linear_sum_assignment(shared, maximize=True)[1][labels]


def similarity(features: np.ndarray, row: int, column: int) -> np.ndarray:
    """(N, h, w) cosine of each cell with the one at (row, column) of its image."""
    return np.einsum('nhwc,nc->nhw', features, features[:, row, column])


def heat(shares: np.ndarray) -> np.ndarray:
    """(h, w) in [0, 1] as (h, w, 3) uint8 RGB, dark to bright; what is outside counts as the
    nearest end."""
    values = np.round(255 * np.clip(shares, 0, 1)).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(values, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def region_colors(labels: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8 RGB of regions (h, w), by their numbers."""
    palette = np.array([region_color(i) for i in range(int(labels.max()) + 1)], np.uint8)
    return palette[labels]


def cells(picture: np.ndarray, side: int) -> np.ndarray:
    """(h, w, 3) as about ``side`` pixels high, each cell a square."""
    scale = max(1, side // picture.shape[0])
    return picture.repeat(scale, 0).repeat(scale, 1)


def _centered(features: np.ndarray) -> np.ndarray:
    return features - features.reshape(-1, features.shape[-1]).mean(0)


def _distances(rows: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """(R, K) squared distances, but for the length of ``rows``."""
    return (centers ** 2).sum(1) - 2 * rows @ centers.T
