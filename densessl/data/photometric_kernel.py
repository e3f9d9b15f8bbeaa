"""Photometry on the CPU, compiled by numba: :func:`densessl.data.photometric.augment` and the
normalization, one view after the other.

The operations are those of :mod:`densessl.data.photometric`, formula by formula. A view is worked
on as three planes of float32, 600 kB at 224 px, which stay in a core's second-level cache from the
first operation to the last; each loop but that of the mean is written so that LLVM vectorizes it.
"""
from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numba import njit
from torch import Tensor

from densessl.data import photometric as ph

_ORDERS = np.array(ph.ORDERS)
# numba computes float32 with a Python number in float64
_ZERO, _ONE, _TWO, _FOUR, _SIX, _HALF = (np.float32(x) for x in (0, 1, 2, 4, 6, 0.5))
_FIVE, _THREE, _WHITE = np.float32(5), np.float32(3), np.float32(255)
_RED, _GREEN, _BLUE = (np.float32(x) for x in ph.LUMA)
_REACH = np.float32(6)   # a Gaussian's weights past 6 sigma are below 2e-8, less than float32 holds


def augment_and_normalize(images: Tensor, rows: Tensor, mean: Tensor, std: Tensor,
                          blur_kernel: int = 23) -> Tensor:
    """Apply photometry to a batch and normalize it, on PyTorch's number of threads.

    Args:
        images: (B, H, W, 3) uint8 on the CPU.
        rows: (B, P) float32 parameters.
        mean, std: 3 numbers each, of channels in [0, 1].
        blur_kernel: side of the Gaussian kernel in pixels.

    Returns:
        (B, 3, H, W) float32, channels-last. A view's result depends on the view alone.
    """
    out = torch.empty(images.shape, dtype=torch.float32)   # (B, H, W, 3)
    statistics = [x.detach().float().flatten().numpy() for x in (mean, std)]
    arrays = images.contiguous().numpy(), rows.float().numpy(), out.numpy()

    def work(first: int, last: int) -> None:
        _augment(*(array[first:last] for array in arrays), *statistics, blur_kernel)

    threads = min(torch.get_num_threads(), len(images))
    ends = [len(images) * i // threads for i in range(threads + 1)] if threads else [0]
    if threads == 1:
        work(0, len(images))
    elif threads:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, *zip(*itertools.pairwise(ends), strict=True)))
    return out.permute(0, 3, 1, 2)


# -- compiled --------------------------------------------------------------------------------------
# Without fastmath: with it the bits would depend on how LLVM happened to vectorize, which it does
# another way in the process that compiles than in the code that others load.
_OPTIONS = dict(nogil=True, error_model='numpy')


def _entry(function):
    """Compile ``function``, keeping the code for later processes in ``__pycache__``, or where that
    cannot be written in the user's cache; without either each process compiles for itself."""
    try:
        return njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:
        return njit(**_OPTIONS)(function)


@_entry
def _augment(images, rows, out, mean, std, blur_kernel):
    batch, height, width, _ = images.shape
    planes = np.empty((3, height * width), np.float32)
    spare = np.empty((height, width), np.float32)
    for i in range(batch):
        row = rows[i]
        _load(images[i].reshape(-1, 3), planes)
        if row[ph.GRAY] == ph.GRAY_BEFORE:
            _grayscale(planes)
        if row[ph.ORDER] != ph.NO_JITTER:
            for column in _ORDERS[int(row[ph.ORDER])]:
                _jitter(planes, column, row[column])
        if row[ph.GRAY] == ph.GRAY_AFTER:
            _grayscale(planes)
        if row[ph.SIGMA] > 0:
            _blur(planes.reshape(3, height, width), row[ph.SIGMA], blur_kernel, spare)
        if row[ph.SOLARIZE] <= 1:
            _solarize(planes, row[ph.SOLARIZE])
        _store(planes, mean, std, out[i].reshape(-1, 3))


@njit(**_OPTIONS)
def _load(pixels, planes):
    red, green, blue = planes[0], planes[1], planes[2]
    for p in range(len(pixels)):
        red[p] = np.float32(pixels[p, 0]) / _WHITE
        green[p] = np.float32(pixels[p, 1]) / _WHITE
        blue[p] = np.float32(pixels[p, 2]) / _WHITE


@njit(**_OPTIONS)
def _store(planes, mean, std, pixels):
    red, green, blue = planes[0], planes[1], planes[2]
    for p in range(len(pixels)):
        pixels[p, 0] = (red[p] - mean[0]) / std[0]
        pixels[p, 1] = (green[p] - mean[1]) / std[1]
        pixels[p, 2] = (blue[p] - mean[2]) / std[2]


@njit(**_OPTIONS)
def _jitter(planes, column, value):
    if column == ph.HUE:
        if value != 0:
            _hue(planes, value)
    elif value == 1:
        return
    elif column == ph.BRIGHTNESS:
        _blend(planes, _ZERO, value)
    elif column == ph.CONTRAST:
        _blend(planes, _mean_luma(planes), value)
    elif column == ph.SATURATION:
        _saturate(planes, value)


@njit(inline='always')
def _clamp(x):
    return min(max(x, _ZERO), _ONE)


@njit(inline='always')
def _luma(red, green, blue):
    return _RED * red + _GREEN * green + _BLUE * blue


@njit(**_OPTIONS)
def _mean_luma(planes):
    """Of rows of 256 pixels each, then of all: float32 sums of few numbers stay exact enough."""
    red, green, blue = planes[0], planes[1], planes[2]
    total = 0.0
    for start in range(0, len(red), 256):
        part = _ZERO
        for p in range(start, min(start + 256, len(red))):
            part += _luma(red[p], green[p], blue[p])
        total += part
    return np.float32(total / len(red))


@njit(**_OPTIONS)
def _blend(planes, other, factor):
    rest = (_ONE - factor) * other
    for c in range(3):
        plane = planes[c]
        for p in range(len(plane)):
            plane[p] = _clamp(plane[p] * factor + rest)


@njit(**_OPTIONS)
def _saturate(planes, factor):
    red, green, blue = planes[0], planes[1], planes[2]
    for p in range(len(red)):
        rest = (_ONE - factor) * _luma(red[p], green[p], blue[p])
        red[p] = _clamp(red[p] * factor + rest)
        green[p] = _clamp(green[p] * factor + rest)
        blue[p] = _clamp(blue[p] * factor + rest)


@njit(**_OPTIONS)
def _grayscale(planes):
    red, green, blue = planes[0], planes[1], planes[2]
    for p in range(len(red)):
        gray = _luma(red[p], green[p], blue[p])
        red[p], green[p], blue[p] = gray, gray, gray


@njit(**_OPTIONS)
def _hue(planes, shift):
    red, green, blue = planes[0], planes[1], planes[2]
    turn = _SIX * shift
    for p in range(len(red)):
        r, g, b = red[p], green[p], blue[p]
        high, low = max(r, max(g, b)), min(r, min(g, b))
        chroma = high - low
        inverse = _ONE / (chroma if chroma > _ZERO else _ONE)
        if high == r:
            sixth = (g - b) * inverse
        elif high == g:
            sixth = (b - r) * inverse + _TWO
        else:
            sixth = (r - g) * inverse + _FOUR
        sixth += turn
        red[p] = high - chroma * _ramp(sixth + _FIVE)
        green[p] = high - chroma * _ramp(sixth + _THREE)
        blue[p] = high - chroma * _ramp(sixth + _ONE)


@njit(inline='always')
def _ramp(k):
    """max(0, min(k, 4 − k, 1)) of ``k`` modulo 6."""
    k = k - _SIX * np.floor(k / _SIX)
    return _clamp(min(k, _FOUR - k))


@njit(**_OPTIONS)
def _solarize(planes, threshold):
    for c in range(3):
        plane = planes[c]
        for p in range(len(plane)):
            x = plane[p]
            plane[p] = x if x < threshold else _ONE - x


@njit(**_OPTIONS)
def _blur(planes, sigma, kernel, spare):
    """Columns into ``spare``, then rows back, mirrored about the border pixels' centers."""
    _, height, width = planes.shape
    weights = _gaussian(sigma, min(kernel // 2, height - 1, width - 1))
    radius = len(weights) - 1
    line = np.empty(width + 2 * radius, np.float32)
    for c in range(3):
        for y in range(height):
            row = spare[y]
            _scale(row, planes[c, y], weights[0])
            for d in range(1, radius + 1):
                _add(row, planes[c, abs(y - d)],
                     planes[c, height - 1 - abs(height - 1 - y - d)], weights[d])
        for y in range(height):
            _scale(line[radius:], spare[y], _ONE)
            for d in range(1, radius + 1):
                line[radius - d] = line[radius + d]
                line[radius + width - 1 + d] = line[radius + width - 1 - d]
            row = planes[c, y]
            _scale(row, spare[y], weights[0])
            for d in range(1, radius + 1):
                _add(row, line[radius - d:], line[radius + d:], weights[d])


@njit(**_OPTIONS)
def _scale(out, values, factor):
    for x in range(len(values)):
        out[x] = factor * values[x]


@njit(**_OPTIONS)
def _add(out, before, after, weight):
    for x in range(len(out)):
        out[x] += weight * (before[x] + after[x])


@njit(**_OPTIONS)
def _gaussian(sigma, radius):
    """(r + 1,) weights from the center outwards, r ≤ ``radius``; those left out are negligible."""
    radius = min(radius, int(_REACH * sigma) + 1)
    weights = np.empty(radius + 1, np.float32)
    total = _ZERO
    for d in range(radius + 1):
        x = np.float32(d) / sigma
        weights[d] = math.exp(-_HALF * x * x)
        total += weights[d] * (_TWO if d else _ONE)
    for d in range(radius + 1):
        weights[d] /= total
    return weights
