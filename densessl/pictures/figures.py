"""Pictures for reports: region masks, label maps and boxes drawn onto images.

Images are (H, W, 3) uint8 RGB. Lines are drawn on enlarged copies, so that they stay thin on
screens of high density.
"""
from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from densessl.files.writing import write_atomically
from densessl.pictures.lettering import Color, text_size, write

Lines = Literal['none', 'thin', 'bold', 'inside']
GOLDEN = 0.618033988749895      # steps of this share of the color wheel never come close early on
WHITE, INK = (255, 255, 255), (16, 18, 24)
TEXT = 14                       # pixels of the names of objects
GAP = 8                         # pixels between the tiles of a mosaic


def region_color(index: int) -> Color:
    """A lively color for region ``index``; neighbors in number are far apart in hue."""
    hue, saturation = (0.58 + index * GOLDEN) % 1, (0.85, 0.65, 0.95)[index % 3]
    value = (1.0, 0.85)[(index // 3) % 2]
    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(hue, saturation, value))


def enlarged(image: np.ndarray, scale: int) -> np.ndarray:
    """``image`` at ``scale`` times its size, smoothly; label maps (H, W) keep their values."""
    smooth = cv2.INTER_CUBIC if image.ndim == 3 else cv2.INTER_NEAREST
    if image.ndim == 2 and image.dtype not in (np.uint8, np.uint16):
        image = image.astype(np.float32)        # holds every id below 2^24
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=smooth)


def draw_regions(image: np.ndarray, labels: np.ndarray,
                 colors: Mapping[int, Sequence[int]] | None = None, *, scale: int = 1,
                 fill: float = 0.0, lines: Lines = 'none') -> np.ndarray:
    """``image`` enlarged, with the regions of ``labels`` (H, W) on it.

    Args:
        colors: of the regions by their label; those without one stay as the image is. If None, all
            have one (:func:`region_color`).
        fill: how much of a region is its color; the rest is the image's light.
        lines: ``thin``: white ones where regions meet; ``bold``: those on a dark edge; ``inside``:
            regions with a color have a rim of it along their inner side, and faint white lines
            part the others.

    Raises:
        ValueError: image and labels differ in size.
    """
    if labels.shape != image.shape[:2]:
        raise ValueError(f'a mask of shape {labels.shape} for an image of {image.shape[:2]}')
    values, region = np.unique(labels, return_inverse=True)
    if colors is None:
        colors = {value: region_color(int(value)) for value in values.tolist()}
    picture, labels = enlarged(image, scale), enlarged(labels, scale)
    if fill:
        palette = np.array([colors.get(value, INK) for value in values.tolist()], np.uint8)
        is_filled = np.array([value in colors for value in values.tolist()])
        region = enlarged(region.reshape(image.shape[:2]), scale).astype(int)
        light = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None]
        filled = (fill * palette[region] + (1 - fill) * light).astype(np.uint8)
        picture = np.where(is_filled[region][..., None], filled, picture)
    if lines == 'inside':
        _tint(picture, _seams(labels), WHITE, 0.5)
        for index, color in colors.items():
            picture[_rim(labels == index, (scale + 1) // 2 + 1)] = color
    elif lines != 'none':
        seams = _seams(labels)
        if lines == 'bold':
            seams = cv2.dilate(seams, np.ones((2, 2), np.uint8))
            _tint(picture, cv2.dilate(seams, np.ones((3, 3), np.uint8)), INK, 0.65)
        picture[seams.astype(bool)] = WHITE
    return picture


def drawn_instances(image: np.ndarray, masks: Sequence[np.ndarray],
                    boxes: Sequence[Sequence[float]], names: Sequence[str],
                    colors: Sequence[Sequence[int]], *, scale: int = 3) -> np.ndarray:
    """Objects on ``image``: each one's mask (H, W) bool tinted, its box and its name.

    Args:
        boxes: left, top, right, bottom in pixels of ``image``.
    """
    picture = enlarged(image, scale)
    for mask, color in zip(masks, colors, strict=False):
        inside = enlarged(mask.astype(np.uint8), scale)
        picture = draw_regions(picture, inside, {1: color}, fill=0.55, lines='thin')
    for box, name, color in zip(boxes, names, colors, strict=True):
        left, top, right, bottom = (round(scale * float(x)) for x in box)
        tone = tuple(int(c) for c in color)
        cv2.rectangle(picture, (left, top), (right, bottom), tone, 2, cv2.LINE_AA)
        _write(picture, name, left, top, tone)
    return picture


def framed(image: np.ndarray, boxes: Sequence[tuple[int, int, int, int]],
           colors: Sequence[Color], *, scale: int = 3) -> np.ndarray:
    """``image`` dimmed outside of ``boxes`` (top, left, height, width), each framed."""
    picture = enlarged(image, scale)
    outside = np.ones(picture.shape[:2], bool)
    for top, left, height, width in boxes:
        outside[scale * top:scale * (top + height), scale * left:scale * (left + width)] = False
    picture[outside] = (0.45 * picture[outside]).astype(np.uint8)
    for (top, left, height, width), color in zip(boxes, colors, strict=True):
        corners = [(scale * left + 2, scale * top + 2),
                   (scale * (left + width) - 3, scale * (top + height) - 3)]
        cv2.rectangle(picture, *corners, INK, 7)
        cv2.rectangle(picture, *corners, color, 4)
    return picture


def fit(image: np.ndarray, high: int, wide: int) -> np.ndarray:
    """(high, wide, 3): the image as large as fits, centered on white."""
    scale = min(high / image.shape[0], wide / image.shape[1])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    top, left = (high - height) // 2, (wide - width) // 2
    return cv2.copyMakeBorder(small, top, high - height - top, left, wide - width - left,
                              cv2.BORDER_CONSTANT, value=WHITE)


def mosaic(rows: list[list[np.ndarray]], color: Color = WHITE) -> np.ndarray:
    """Rows of tiles of one size, a gap of that color to the right of and below each."""
    padded = [np.hstack([cv2.copyMakeBorder(tile, 0, GAP, 0, GAP, cv2.BORDER_CONSTANT, value=color)
                         for tile in row]) for row in rows]
    return np.vstack(padded)


def write_picture(path: Path, picture: np.ndarray, quality: int = 95) -> None:
    """Write (H, W, 3) uint8 RGB as what the suffix of ``path`` says; ``quality`` is that of JPEG.

    Raises:
        UsageError, RunFailed: it cannot be written.
    """
    pixels = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    _, content = cv2.imencode(path.suffix, pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    write_atomically(path, content.tobytes())


def _seams(labels: np.ndarray) -> np.ndarray:
    """(H, W) uint8: 1 where a pixel's right or lower neighbor has another label."""
    seams = np.zeros(labels.shape, np.uint8)
    seams[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    seams[:-1] |= labels[:-1] != labels[1:]
    return seams


def _rim(inside: np.ndarray, thick: int) -> np.ndarray:
    """(H, W) bool: the pixels of a region that are at most ``thick`` from its edge."""
    width = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * thick + 1, 2 * thick + 1))
    padded = np.pad(inside.astype(np.uint8), thick)
    return (padded & ~cv2.erode(padded, width))[thick:-thick, thick:-thick].astype(bool)


def _tint(picture: np.ndarray, where: np.ndarray, color: Color, share: float) -> None:
    chosen = where.astype(bool)
    picture[chosen] = ((1 - share) * picture[chosen] + share * np.array(color)).astype(np.uint8)


def _write(picture: np.ndarray, text: str, left: int, top: int, color: Color) -> None:
    """``text`` on a plate of ``color`` above (left, top), moved into the picture."""
    width, height = text_size(text, TEXT)
    left = min(max(left, 0), max(picture.shape[1] - width - 6, 0))
    top = max(top, height + 2)
    cv2.rectangle(picture, (left, top - height - 2), (left + width + 6, top), color, -1)
    dark = 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2] < 140
    write(picture, text, left + 3, top - height - 1, WHITE if dark else INK, TEXT)
