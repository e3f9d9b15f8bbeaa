"""Felzenszwalb & Huttenlocher's segmentation (IJCV 2004, Algorithm 1), compiled by numba.

The graph joins each pixel to its eight neighbors. Edges are implied: edge ``4·pixel + direction``
leads to the neighbor right, below, below right or below left. They are not compared with each
other but dealt into bins by weight (counting sort). A bin is worked in two steps: the first drops,
without a branch that could be mispredicted, the edges within one region, the second merges. That
is four times as fast as one loop over the edges.
"""
from __future__ import annotations

import cv2
import numpy as np
from numba import njit, uint16, uint32, uint64

from densessl.pixels.compiled import entry

# An edge's bin is its squared weight's float32 exponent and first 9 bits of mantissa: weights of
# 0..442 that differ by 0.1 % have bins of their own, those below 0.03 count as 0. With 8 bits
# the scores on BSDS500 leave scikit-image's by half a point; 10 take longer and come no closer.
_MANTISSA, _LOWEST, _OCTAVES = 9, 127 - 10, 28
BINS = _OCTAVES << _MANTISSA
_SHIFT = np.int32(23 - _MANTISSA)
_FIRST, _LAST, _ZERO = np.int32(_LOWEST << _MANTISSA), np.int32(BINS - 1), np.int32(0)


def _bin_edges() -> np.ndarray:
    """(BINS + 1,) float32: the weights at which bins begin and the last one ends."""
    bits = (np.arange(BINS + 1, dtype=np.int32) + _FIRST) << _SHIFT
    edges = np.sqrt(bits.view(np.float32))
    edges[0] = 0
    return edges


BIN_EDGES = _bin_edges()


def felzenszwalb(image: np.ndarray, scale: float, sigma: float, min_size: int) -> np.ndarray:
    """Segment ``image``.

    Args:
        image: (H, W, 3) RGB, uint8 or floating point in 0..1.
        scale: k of the paper, for colors in 0..255.
        sigma: of the Gaussian that smooths first, in pixels.
        min_size: regions of fewer pixels are merged.

    Returns:
        (H, W) int32 labels 0..n-1, numbered by their first pixel.

    Raises:
        ValueError: not such an image.
    """
    return divide(edge_bins(image, sigma), scale, min_size)


def edge_bins(image: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """What :func:`divide` needs of an image, for as many scales as are wanted."""
    return _edge_bins(smooth(image, sigma))


def divide(bins: tuple[np.ndarray, np.ndarray], scale: float, min_size: int) -> np.ndarray:
    """The rest of :func:`felzenszwalb`."""
    return _segment(*bins, BIN_EDGES, np.float32(scale), np.int64(min_size))


def smooth(image: np.ndarray, sigma: float) -> np.ndarray:
    """(3, H, W) float32 in 0..255, smoothed as scikit-image does: a Gaussian that ends at 4 σ, the
    image mirrored at its border. ValueError for what the kernel is not made for: numba checks no
    index, and an edge's number, four times its pixel's, has 32 bits."""
    colors = image.dtype == np.uint8 or (image.dtype.kind == 'f' and np.isfinite(image).all())
    if not colors or image.ndim != 3 or image.shape[2] != 3 or not 0 < image.size < 3 << 30:
        raise ValueError(f'an image must be (H, W, 3) uint8 or finite floats, not empty and below '
                         f'2^30 pixels, not {image.shape} {image.dtype}')
    if image.dtype.kind == 'f':
        image = image.astype(np.float32) * np.float32(255)
    radius = int(4 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    gaussian = np.exp(-0.5 * (offsets / sigma) ** 2) if radius else np.ones(1)
    gaussian = (gaussian / gaussian.sum()).astype(np.float32)
    planes = np.empty((3, *image.shape[:2]), np.float32)
    for channel, plane in enumerate(planes):
        plane[:] = cv2.sepFilter2D(cv2.extractChannel(image, channel), cv2.CV_32F, gaussian,
                                   gaussian, borderType=cv2.BORDER_REFLECT)
    return planes


# -- compiled --------------------------------------------------------------------------------------
# Indices are unsigned: numba would ask of a signed one whether it counts from the end.

@entry
def _edge_bins(planes):
    """The bins of all edges, (H, 4, W) uint16 by row, direction and column, and how many edges
    each direction has in each bin, (4, BINS). Written so that LLVM vectorizes the two inner loops.
    """
    _, height, width = planes.shape
    keys = np.empty((height, 4, width), np.uint16)
    counts = np.zeros((4, BINS), np.uint32)
    squared = np.empty(width, np.float32)
    bits = squared.view(np.int32)       # of positive floats: ordered as they are
    for y in range(height):
        for d in range(4):
            below, x0, x1 = _reach(d)
            n = width - max(x0, x1)
            if y + below == height or n <= 0:
                continue
            red, green, blue = planes[0, y, x0:], planes[1, y, x0:], planes[2, y, x0:]
            y1 = y + below
            red1, green1, blue1 = planes[0, y1, x1:], planes[1, y1, x1:], planes[2, y1, x1:]
            for x in range(n):
                r, g, b = red[x] - red1[x], green[x] - green1[x], blue[x] - blue1[x]
                squared[x] = r * r + g * g + b * b
            row, count = keys[y, d], counts[d]
            for x in range(n):
                row[x] = uint16(min(max((bits[x] >> _SHIFT) - _FIRST, _ZERO), _LAST))
            for x in range(n):
                count[row[x]] += uint32(1)
    return keys, counts


@njit(inline='always')
def _reach(d):
    """Direction ``d``'s rows below, and the columns of the leftmost such edge's two ends."""
    return (0, 1, 1, 1)[d], (0, 0, 0, 1)[d], (1, 0, 1, 0)[d]


@entry
def _segment(keys, counts, edges, scale, min_size):
    height, _, width = keys.shape
    order, ends = _sort(keys, counts)
    parent = np.arange(height * width).astype(np.uint32)    # of a region's tree; a root is its own
    size = np.ones(height * width, np.int32)                # of a root's region
    step = np.array([1, width, width + 1, width - 1], np.uint64)
    left = _merge(order, ends, edges, parent, size, step, scale)
    _merge_small(order[:left], parent, size, step, min_size)
    return _number(parent, size).reshape(height, width)


@njit
def _sort(keys, counts):
    """All edges by bin, in a bin by row, direction and column; and where each bin ends."""
    height, _, width = keys.shape
    ends = np.empty(BINS, np.uint32)
    total = uint32(0)
    for k in range(BINS):
        ends[k] = total                 # where the bin begins, until its edges are dealt
        total += counts[0, k] + counts[1, k] + counts[2, k] + counts[3, k]
    order = np.empty(total, np.uint32)
    for y in range(height):
        for d in range(4):
            below, x0, x1 = _reach(d)
            if y + below == height:
                continue
            edge = uint32(4 * (y * width + x0) + d)
            row = keys[y, d]
            for x in range(width - max(x0, x1)):
                order[ends[row[x]]] = edge
                ends[row[x]] += uint32(1)
                edge += uint32(4)
    return order, ends


@njit
def _merge(order, ends, edges, parent, size, step, scale):
    """Merge regions along ``order`` while the paper's predicate holds; the edges that still lay
    between two regions when it was their turn are moved to the front. Returns how many."""
    limit = np.full(parent.size, scale, np.float32)     # Int(C) + k / |C| of a root's region C
    start, left = uint64(0), uint64(0)
    for k in range(uint64(BINS)):
        end, between = uint64(ends[k]), start
        for i in range(start, end):
            p = uint64(order[i] >> 2)
            q = p + step[order[i] & 3]
            a, b = parent[parent[p]], parent[parent[q]]
            parent[p], parent[q] = a, b                 # path halving
            order[between] = order[i]
            between += uint64(a != b)
        # The weights of a bin count as spread evenly over it. Were they equal, a large region would
        # stop at the gap between two bins, which in truth is filled. Those of the first are zero.
        weight, gap = edges[k], np.float32(0)
        if k > 0 and between > start:
            gap = (edges[k + uint64(1)] - weight) / np.float32(between - start)
        for i in range(start, between):
            weight += gap
            p = uint64(order[i] >> 2)
            a, b = _root(parent, p), _root(parent, p + step[order[i] & 3])
            if a == b:
                continue
            if weight < limit[a] and weight < limit[b]:
                a = _join(parent, size, a, b)
                limit[a] = weight + scale / np.float32(size[a])
            else:
                order[left] = order[i]
                left += uint64(1)
        start = end
    return left


@njit
def _merge_small(order, parent, size, step, min_size):
    """Merge regions of fewer than ``min_size`` pixels across their lightest edge that is left."""
    for i in range(uint64(order.size)):
        p = uint64(order[i] >> 2)
        a, b = _root(parent, p), _root(parent, p + step[order[i] & 3])
        if a != b and (size[a] < min_size or size[b] < min_size):
            _join(parent, size, a, b)


@njit
def _number(parent, size):
    """(N,) int32 labels; ``size`` of the roots is used up."""
    labels = np.empty(parent.size, np.int32)
    regions = np.int32(0)
    for p in range(uint64(parent.size)):
        root = _root(parent, p)
        if size[root] > 0:
            size[root] = -regions           # 0 or less: seen
            regions += np.int32(1)
        labels[p] = -size[root]
    return labels


@njit(inline='always')
def _root(parent, p):
    """The root of pixel ``p``'s region; halves the path there."""
    above = uint64(parent[p])
    top = uint64(parent[above])
    while top != above:
        parent[p] = top
        p = top
        above = uint64(parent[p])
        top = uint64(parent[above])
    return above


@njit(inline='always')
def _join(parent, size, a, b):
    """Hang the smaller of two regions below the larger; returns the larger's root."""
    if size[a] < size[b]:
        a, b = b, a
    parent[b] = uint32(a)
    size[a] += size[b]
    return a
