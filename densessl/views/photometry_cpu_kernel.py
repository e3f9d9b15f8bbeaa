"""Photometry compiled by numba: :func:`densessl.views.photometry.augment` and the normalization,
one view after the other. Numba checks neither shapes nor indices; the door does,
:mod:`densessl.views.photometry_cpu`.

The operations are those of :mod:`densessl.views.photometry`, formula by formula. A view is worked
on as three planes of float32, 600 kB at 224 px, which stay in a core's second-level cache from the
first operation to the last; each loop but that of the mean is written so that LLVM vectorizes it.
"""
from __future__ import annotations

import math

import numpy as np
from numba import njit

from densessl.pixels.compiled import OPTIONS, entry
from densessl.views import photometry_draw as ph

_ORDERS = np.array(ph.ORDERS)
# numba computes float32 with a Python number in float64
_ZERO, _ONE, _TWO, _FOUR, _SIX, _HALF = (np.float32(x) for x in (0, 1, 2, 4, 6, 0.5))
_FIVE, _THREE, _WHITE = np.float32(5), np.float32(3), np.float32(255)
_RED, _GREEN, _BLUE = (np.float32(x) for x in ph.LUMA)
_REACH = np.float32(6)   # a Gaussian's weights past 6 sigma are below 2e-8, less than float32 holds


@entry
def augment_batch(images, rows, out, mean, std):
    """Views (B, H, W, 3) uint8 and their parameters (B, P) into ``out`` (B, H, W, 3) float32."""
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
                _jitter(planes, column, row[column], row[ph.STYLE])
        if row[ph.GRAY] == ph.GRAY_AFTER:
            _grayscale(planes)
        if row[ph.SIGMA] > 0:
            _blur(planes.reshape(3, height, width), row[ph.SIGMA], int(row[ph.KERNEL]) // 2,
                  row[ph.STYLE] == ph.BLENDED, spare)
        if row[ph.SOLARIZE] <= 1:
            _solarize(planes, row[ph.SOLARIZE])
        _store(planes, mean, std, out[i].reshape(-1, 3))


@njit(**OPTIONS)
def _load(pixels, planes):
    red, green, blue = planes[0], planes[1], planes[2]
    for p in range(len(pixels)):
        red[p] = np.float32(pixels[p, 0]) / _WHITE
        green[p] = np.float32(pixels[p, 1]) / _WHITE
        blue[p] = np.float32(pixels[p, 2]) / _WHITE


@njit(**OPTIONS)
def _store(planes, mean, std, pixels):
    red, green, blue = planes[0], planes[1], planes[2]
    for p in range(len(pixels)):
        pixels[p, 0] = (red[p] - mean[0]) / std[0]
        pixels[p, 1] = (green[p] - mean[1]) / std[1]
        pixels[p, 2] = (blue[p] - mean[2]) / std[2]


@njit(**OPTIONS)
def _jitter(planes, column, value, style):
    if column == ph.HUE:
        if value != 0 and style == ph.BLENDED:
            _hue(planes, value)
        elif value != 0:
            _hue_in_hsv(planes, value)
    elif column == ph.BRIGHTNESS and style == ph.HSV_ADDED:
        _blend(planes.reshape(-1), value, _ONE)
    elif value == 1:
        return
    elif column == ph.BRIGHTNESS:
        _blend(planes.reshape(-1), _ZERO, value)
    elif column == ph.CONTRAST:
        gray = _mean_luma(planes) if style == ph.BLENDED else _ZERO
        for c in range(3):
            mean = gray if style == ph.BLENDED else _mean(planes[c])
            _blend(planes[c], (_ONE - value) * mean, value)
    elif style == ph.BLENDED:
        _saturate(planes, value)
    else:
        _saturate_in_hsv(planes, value)


@njit(inline='always')
def _clamp(x):
    return min(max(x, _ZERO), _ONE)


@njit(inline='always')
def _luma(red, green, blue):
    return _RED * red + _GREEN * green + _BLUE * blue


@njit(**OPTIONS)
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


@njit(**OPTIONS)
def _mean(plane):
    total = 0.0
    for start in range(0, len(plane), 256):
        part = _ZERO
        for p in range(start, min(start + 256, len(plane))):
            part += plane[p]
        total += part
    return np.float32(total / len(plane))


@njit(**OPTIONS)
def _blend(plane, rest, factor):
    for p in range(len(plane)):
        plane[p] = _clamp(plane[p] * factor + rest)


@njit(**OPTIONS)
def _saturate(planes, factor):
    red, green, blue = planes[0], planes[1], planes[2]
    for p in range(len(red)):
        rest = (_ONE - factor) * _luma(red[p], green[p], blue[p])
        red[p] = _clamp(red[p] * factor + rest)
        green[p] = _clamp(green[p] * factor + rest)
        blue[p] = _clamp(blue[p] * factor + rest)


@njit(**OPTIONS)
def _saturate_in_hsv(planes, factor):
    red, green, blue = planes[0], planes[1], planes[2]
    for p in range(len(red)):
        r, g, b = red[p], green[p], blue[p]
        high = max(r, max(g, b))
        chroma = high - min(r, min(g, b))
        growth = min(factor, high / (chroma if chroma > _ZERO else _ONE))
        red[p] = _clamp(high - (high - r) * growth)
        green[p] = _clamp(high - (high - g) * growth)
        blue[p] = _clamp(high - (high - b) * growth)


@njit(**OPTIONS)
def _grayscale(planes):
    red, green, blue = planes[0], planes[1], planes[2]
    for p in range(len(red)):
        gray = _luma(red[p], green[p], blue[p])
        red[p], green[p], blue[p] = gray, gray, gray


@njit(inline='always')
def _hue_of(r, g, b):
    """The hue in sixths of a turn, −1 … 5, chroma and value."""
    high = max(r, max(g, b))
    chroma = high - min(r, min(g, b))
    inverse = _ONE / (chroma if chroma > _ZERO else _ONE)
    if high == r:
        return (g - b) * inverse, chroma, high
    if high == g:
        return (b - r) * inverse + _TWO, chroma, high
    return (r - g) * inverse + _FOUR, chroma, high


@njit(**OPTIONS)
def _hue(planes, shift):
    red, green, blue = planes[0], planes[1], planes[2]
    turn = _SIX * shift
    for p in range(len(red)):
        sixth, chroma, high = _hue_of(red[p], green[p], blue[p])
        sixth += turn
        red[p] = high - chroma * _ramp(sixth + _FIVE)
        green[p] = high - chroma * _ramp(sixth + _THREE)
        blue[p] = high - chroma * _ramp(sixth + _ONE)


@njit(**OPTIONS)
def _hue_in_hsv(planes, shift):
    red, green, blue = planes[0], planes[1], planes[2]
    turn = _SIX * shift
    for p in range(len(red)):
        sixth, chroma, high = _hue_of(red[p], green[p], blue[p])
        sixth += turn
        sixth -= _SIX * np.floor(sixth / _SIX)
        red[p] = high - chroma * (_ONE - _clamp(abs(sixth - _THREE) - _ONE))
        green[p] = high - chroma * (_ONE - _clamp(_TWO - abs(sixth - _TWO)))
        blue[p] = high - chroma * (_ONE - _clamp(_TWO - abs(sixth - _FOUR)))


@njit(inline='always')
def _ramp(k):
    """max(0, min(k, 4 − k, 1)) of ``k`` modulo 6."""
    k = k - _SIX * np.floor(k / _SIX)
    return _clamp(min(k, _FOUR - k))


@njit(**OPTIONS)
def _solarize(planes, threshold):
    values = planes.reshape(-1)
    for p in range(len(values)):
        x = values[p]
        values[p] = x if x < threshold else _ONE - x


@njit(**OPTIONS)
def _blur(planes, sigma, reach, mirrored, spare):
    """Columns into ``spare``, then rows back. The image is mirrored about the border pixels'
    centers, or surrounded by zeros."""
    _, height, width = planes.shape
    weights = _gaussian(sigma, min(reach, height - 1, width - 1) if mirrored else reach)
    radius = len(weights) - 1
    line = np.zeros(width + 2 * radius, np.float32)
    zeros = np.zeros(width, np.float32)
    for c in range(3):
        for y in range(height):
            row = spare[y]
            _scale(row, planes[c, y], weights[0])
            for d in range(1, radius + 1):
                if mirrored:
                    _add(row, planes[c, abs(y - d)],
                         planes[c, height - 1 - abs(height - 1 - y - d)], weights[d])
                else:
                    _add(row, planes[c, y - d] if y >= d else zeros,
                         planes[c, y + d] if y + d < height else zeros, weights[d])
        for y in range(height):
            _scale(line[radius:], spare[y], _ONE)
            if mirrored:
                for d in range(1, radius + 1):
                    line[radius - d] = line[radius + d]
                    line[radius + width - 1 + d] = line[radius + width - 1 - d]
            row = planes[c, y]
            _scale(row, spare[y], weights[0])
            for d in range(1, radius + 1):
                _add(row, line[radius - d:], line[radius + d:], weights[d])


@njit(**OPTIONS)
def _scale(out, values, factor):
    for x in range(len(values)):
        out[x] = factor * values[x]


@njit(**OPTIONS)
def _add(out, before, after, weight):
    for x in range(len(out)):
        out[x] += weight * (before[x] + after[x])


@njit(**OPTIONS)
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
