"""Bicubic resizing as TensorFlow 2 does it, compiled by numba.

Keys' kernel with a = −0.5 between the centers of pixels, four taps at any scale (nothing is
averaged when an image shrinks), taps outside of the image left out and the others scaled up to a
sum of 1. OpenCV's and PyTorch's kernel has a = −0.75, Pillow's averages. Source: TensorFlow
``core/kernels/image/resize_bicubic_op.cc`` with ``half_pixel_centers``, which is what
``tf.image.resize(…, 'bicubic')`` calls.
"""
from __future__ import annotations

import numpy as np
from numba import njit

from densessl.pixels.compiled import OPTIONS, entry

# numba computes float32 with a Python number in float64
_HALF, _ZERO, _ONE, _WHITE = (np.float32(x) for x in (0.5, 0, 1, 255))
_STEPS = 1 << 10      # TensorFlow looks weights up in a table of so many steps a pixel
_A = -0.5


def resize_crop(image: np.ndarray, box: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Resize a part of an image to a square.

    Args:
        image: (H, W, 3) uint8.
        box: the part: top, left, height, width in pixels.
        size: side of the result, in pixels.

    Returns:
        (size, size, 3) uint8: TensorFlow's clipped floats, each rounded to the nearest of the 256
        levels, by half a level at most.

    Raises:
        ValueError: not such an image, or a box that is not within it.
    """
    top, left, height, width = (int(side) for side in box)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f'an image must be (H, W, 3) uint8, not {image.shape} {image.dtype}')
    if not (0 <= top and 0 <= left and 0 < height <= image.shape[0] - top
            and 0 < width <= image.shape[1] - left and size > 0):
        raise ValueError(f'box {box} to {size} pixels does not fit an image of {image.shape}')
    pixels = np.ascontiguousarray(image).reshape(image.shape[0], -1)
    out = np.empty((size, size, 3), np.uint8)
    _resize(pixels[top:top + height], 3 * left, width, out)
    return out


@entry
def _resize(pixels, start, width, out):
    """Rows first, a whole line at a time, which LLVM vectorizes, then the line's columns."""
    size = len(out)
    rows, row_weights = _taps(len(pixels), size)
    columns, weights = _taps(width, size)
    line = np.empty(3 * width, np.float32)
    for y in range(size):
        _weigh(pixels[rows[y, 0], start:], pixels[rows[y, 1], start:],
               pixels[rows[y, 2], start:], pixels[rows[y, 3], start:], row_weights[y], line)
        for x in range(size):
            i, j, k, m = columns[x, 0], columns[x, 1], columns[x, 2], columns[x, 3]
            a, b, c, d = weights[x, 0], weights[x, 1], weights[x, 2], weights[x, 3]
            for channel in range(3):
                value = (a * line[3 * i + channel] + b * line[3 * j + channel]
                         + c * line[3 * k + channel] + d * line[3 * m + channel])
                out[y, x, channel] = np.uint8(min(max(value, _ZERO), _WHITE) + _HALF)


@njit(**OPTIONS)
def _weigh(first, second, third, fourth, weights, line):
    a, b, c, d = weights[0], weights[1], weights[2], weights[3]
    for p in range(len(line)):
        line[p] = (a * np.float32(first[p]) + b * np.float32(second[p])
                   + c * np.float32(third[p]) + d * np.float32(fourth[p]))


@njit(**OPTIONS)
def _taps(source, target):
    """(target, 4) places among ``source`` pixels, and their weights."""
    places = np.empty((target, 4), np.uint64)     # unsigned: numba asks of a signed index whether
    weights = np.empty((target, 4), np.float32)   # it counts from the end
    scale = np.float32(source) / np.float32(target)
    for i in range(target):
        at = (np.float32(i) + _HALF) * scale - _HALF
        before = int(np.floor(at))
        step = np.rint((at - np.float32(before)) * np.float32(_STEPS)) / _STEPS
        total = _ZERO
        for tap in range(4):
            place = before - 1 + tap
            inside = 0 <= place < source
            distance = abs(tap - 1 - step)
            weights[i, tap] = np.float32(_keys(distance)) if inside else _ZERO
            places[i, tap] = min(max(place, 0), source - 1)
            total += weights[i, tap]
        for tap in range(4):
            weights[i, tap] *= _ONE / total
    return places, weights


@njit(inline='always')
def _keys(x):
    """Keys 1981, the weight of a pixel at distance ``x`` in 0 … 2."""
    if x <= 1:
        return ((_A + 2) * x - (_A + 3)) * x * x + 1
    return ((_A * x - 5 * _A) * x + 8 * _A) * x - 4 * _A
