"""TensorFlow's views in float64 NumPy, one formula after the other: what tests compare with.

Written from ``tf.image`` and from the releases of BYOL, DetCon and SimCLR (``densessl/views``
names the files), with neither shortcuts nor batches: HSV is gone into and out of, a blur
is two convolutions over an image padded with zeros, a bicubic resize is a matrix for each axis.
"""
from __future__ import annotations

import cv2
import numpy as np

from densessl.views import photometry_draw as draw


def to_hsv(rgb):
    """(…, 3) in 0 … 1 → hue in turns, saturation, value."""
    r, g, b = np.moveaxis(rgb, -1, 0)
    value, spread = rgb.max(-1), rgb.max(-1) - rgb.min(-1)
    with np.errstate(divide='ignore', invalid='ignore'):
        saturation = np.where(value > 0, spread / value, 0)
        sixth = np.select([spread == 0, r == value, g == value],
                          [0 * r, (g - b) / spread, 2 + (b - r) / spread], 4 + (r - g) / spread)
    return sixth / 6 % 1, saturation, value


def to_rgb(hue, saturation, value):
    """By the six sectors of the circle."""
    chroma = saturation * value
    sixth = hue % 1 * 6
    middle = chroma * (1 - abs(sixth % 2 - 1))
    sector, zero = np.floor(sixth).astype(int) % 6, 0 * chroma
    red = np.choose(sector, [chroma, middle, zero, zero, middle, chroma])
    green = np.choose(sector, [middle, chroma, chroma, middle, zero, zero])
    blue = np.choose(sector, [zero, zero, middle, chroma, chroma, middle])
    return np.stack([red, green, blue], -1) + (value - chroma)[..., None]


def added(image, shift):
    return image + shift


def multiplied(image, factor):
    return image * factor


def contrast(image, factor):
    mean = image.mean((0, 1))
    return (image - mean) * factor + mean


def saturation(image, factor):
    hue, saturation, value = to_hsv(image)
    return to_rgb(hue, np.clip(saturation * factor, 0, 1), value)


def hue(image, shift):
    turns, saturation, value = to_hsv(image)
    return to_rgb((turns + shift) % 1, saturation, value)


def grayscale(image):
    return np.repeat((image @ [0.2989, 0.5870, 0.1140])[..., None], 3, -1)


def blur(image, sigma, kernel):
    radius = kernel // 2
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-offsets ** 2 / (2 * sigma ** 2))
    weights = weights / weights.sum()
    for axis in (1, 0):
        pad = [(radius, radius) if a == axis else (0, 0) for a in range(3)]
        padded, length = np.pad(image, pad), image.shape[axis]
        image = sum(weight * np.take(padded, np.arange(i, i + length), axis)
                    for i, weight in enumerate(weights))
    return image


def solarize(image, threshold):
    return np.where(image < threshold, image, 1 - image)


JITTER = {draw.BRIGHTNESS: added, draw.CONTRAST: contrast, draw.SATURATION: saturation,
          draw.HUE: hue}


def augmented(image, row):
    """A view (H, W, 3) of floats after a row of parameters (P,), clipped after each operation of
    the jitter and at the end, as the releases do."""
    image = np.asarray(image, np.float64)
    row = np.asarray(row, np.float64)
    scaled = row[draw.STYLE] == draw.HSV_SCALED
    jitter = {**JITTER, draw.BRIGHTNESS: multiplied} if scaled else JITTER
    if row[draw.ORDER] != draw.NO_JITTER:
        for column in draw.ORDERS[int(row[draw.ORDER])]:
            image = np.clip(jitter[column](image, row[column]), 0, 1)
    if row[draw.GRAY]:
        image = grayscale(image)
    if row[draw.SIGMA]:
        image = blur(image, row[draw.SIGMA], int(row[draw.KERNEL]))
    if row[draw.SOLARIZE] <= 1:
        image = solarize(image, row[draw.SOLARIZE])
    return np.clip(image, 0, 1)


def keys(x):
    """The cubic convolution kernel of Keys 1981, a = −0.5."""
    x = abs(x)
    near = 1.5 * x ** 3 - 2.5 * x ** 2 + 1
    far = -0.5 * x ** 3 + 2.5 * x ** 2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def resize_matrix(source, target):
    """(target, source) weights. The place between two pixels is rounded to 1/1024, the step of
    TensorFlow's table of weights."""
    places = (np.arange(target) + 0.5) * source / target - 0.5
    places = np.floor(places) + np.round((places - np.floor(places)) * 1024) / 1024
    weights = keys(places[:, None] - np.arange(source))
    return weights / weights.sum(1, keepdims=True)


def resized(crop, size):
    """(H, W, 3) uint8 → (size, size, 3) in 0 … 255, clipped, not rounded."""
    rows, columns = resize_matrix(crop.shape[0], size), resize_matrix(crop.shape[1], size)
    lines = np.tensordot(rows, crop.astype(np.float64), 1)             # (size, W, 3)
    return np.clip(np.einsum('xj,yjc->yxc', columns, lines, optimize=True), 0, 255)


def distorted_box(rng, height, width, area, ratio):
    """TensorFlow's kernel ``sample_distorted_bounding_box``, whole image as the object, a tenth of
    it to cover, in single precision as there. (top, left, height, width)."""
    f = np.float32
    for _ in range(100):
        aspect = f(rng.random(dtype=f)) * (f(ratio[1]) - f(ratio[0])) + f(ratio[0])
        least, most = f(area[0]) * f(width) * f(height), f(area[1]) * f(width) * f(height)
        lowest = int(np.rint(np.sqrt(least / aspect)))
        highest = int(np.rint(np.sqrt(most / aspect)))
        if np.rint(f(highest) * aspect) > width:
            highest = int((width + 0.5 - 1e-7) / aspect)
            if np.rint(f(highest) * aspect) > width:
                highest -= 1
        highest = min(highest, height)
        h = highest if lowest >= highest else int(rng.integers(lowest, highest + 1))
        w = int(np.rint(f(h) * aspect))
        if w * h < least:
            h += 1
            w = int(np.rint(f(h) * aspect))
        if w * h > most:
            h -= 1
            w = int(np.rint(f(h) * aspect))
        if not (least <= w * h <= most) or not 0 < w <= width or not 0 < h <= height:
            continue
        if w * h / (width * height) < 0.1:
            continue
        top = int(rng.integers(height - h)) if h < height else 0
        left = int(rng.integers(width - w)) if w < width else 0
        return top, left, h, w
    return 0, 0, height, width


def pictures(number, height=33, width=41, seed=0):
    """Noise, flat patches, few levels, gray: (B, H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (number, height, width, 3), np.uint8)
    patches = rng.integers(0, 256, (number, 5, 6, 3), np.uint8)
    for i in range(0, number, 2):
        noise[i] = cv2.resize(patches[i], (width, height), interpolation=cv2.INTER_NEAREST)
    noise[1] %= 4
    noise[3] = noise[3, :, :, :1]
    return noise
