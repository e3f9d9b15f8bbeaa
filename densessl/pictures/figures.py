"""Pictures for reports: region masks, label maps and boxes drawn onto images.

Images are (H, W, 3) uint8 RGB. Lines are drawn on enlarged copies, so that they stay thin on
screens of high density.
"""
from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from densessl.pictures.lettering import text_size, write

Color = tuple[int, int, int]
GOLDEN = 0.618033988749895      # steps of this share of the color wheel never come close early on
WHITE, INK = (255, 255, 255), (16, 18, 24)
TEXT = 14                       # pixels of the names of objects


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


def outlined(image: np.ndarray, labels: np.ndarray, *, scale: int = 3) -> np.ndarray:
    """``image`` with white lines, on a dark edge, where regions of ``labels`` (H, W) meet."""
    picture = enlarged(image, scale)
    border = cv2.dilate(_border(enlarged(labels, scale)), np.ones((2, 2), np.uint8))
    halo = cv2.dilate(border, np.ones((3, 3), np.uint8)).astype(bool)
    picture[halo] = (0.35 * picture[halo] + 0.65 * np.array(INK)).astype(np.uint8)
    picture[border.astype(bool)] = WHITE
    return picture


def outlined_in_colors(image: np.ndarray, labels: np.ndarray, colors: Mapping[int, Color], *,
                       scale: int = 3) -> np.ndarray:
    """``image`` with every region outlined, on its inner side, in its own of ``colors``; regions
    without a color by a faint white line."""
    picture, labels = enlarged(image, scale), enlarged(labels, scale)
    seam = _border(labels).astype(bool)
    picture[seam] = (0.5 * picture[seam] + 0.5 * np.array(WHITE)).astype(np.uint8)
    thick = (scale + 1) // 2 + 1
    width = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * thick + 1, 2 * thick + 1))
    for index, color in colors.items():
        inside = np.pad((labels == index).astype(np.uint8), thick)
        rim = (inside & ~cv2.erode(inside, width))[thick:-thick, thick:-thick].astype(bool)
        picture[rim] = color
    return picture


def colored_regions(image: np.ndarray, labels: np.ndarray, *, scale: int = 3) -> np.ndarray:
    """The regions of ``labels`` (H, W) as flat colors, with a little of the image's light."""
    palette = np.array([region_color(i) for i in range(int(labels.max()) + 1)])
    return _tinted(image, palette[labels.astype(int)], 0.72, scale)


def colored_classes(image: np.ndarray, labels: np.ndarray, palette: Sequence[Sequence[int]], *,
                    scale: int = 2, ignore: int = 255) -> np.ndarray:
    """Semantic ``labels`` (H, W) in their classes' colors over the image's light."""
    known = labels != ignore
    colors = np.array(palette)[np.where(known, labels, 0)]
    return _tinted(image, np.where(known[..., None], colors, 0), 0.78, scale)


def drawn_instances(image: np.ndarray, masks: Sequence[np.ndarray],
                    boxes: Sequence[Sequence[float]], names: Sequence[str],
                    colors: Sequence[Sequence[int]], *, scale: int = 3) -> np.ndarray:
    """Objects on ``image``: each one's mask (H, W) bool tinted, its box and its name.

    Args:
        boxes: left, top, right, bottom in pixels of ``image``.
    """
    picture = enlarged(image, scale)
    for mask, color in zip(masks, colors, strict=False):
        inside = enlarged(mask.astype(np.uint8), scale).astype(bool)
        picture[inside] = (0.45 * picture[inside] + 0.55 * np.array(color)).astype(np.uint8)
        picture[_border(inside.astype(np.uint8)).astype(bool)] = WHITE
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


def _border(labels: np.ndarray) -> np.ndarray:
    """(H, W) uint8: 1 where a pixel's right or lower neighbor has another label."""
    border = np.zeros(labels.shape, np.uint8)
    border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    border[:-1] |= labels[:-1] != labels[1:]
    return border


def _tinted(image: np.ndarray, colors: np.ndarray, share: float, scale: int) -> np.ndarray:
    light = cv2.cvtColor(enlarged(image, scale), cv2.COLOR_RGB2GRAY)[..., None]
    flat = cv2.resize(colors.astype(np.uint8), None, fx=scale, fy=scale,
                      interpolation=cv2.INTER_NEAREST)
    return (share * flat + (1 - share) * light).astype(np.uint8)


def _write(picture: np.ndarray, text: str, left: int, top: int, color: Color) -> None:
    """``text`` on a plate of ``color`` above (left, top), moved into the picture."""
    width, height = text_size(text, TEXT)
    left = min(max(left, 0), max(picture.shape[1] - width - 6, 0))
    top = max(top, height + 2)
    cv2.rectangle(picture, (left, top - height - 2), (left + width + 6, top), color, -1)
    dark = 0.3 * color[0] + 0.59 * color[1] + 0.11 * color[2] < 140
    write(picture, text, left + 3, top - height - 1, WHITE if dark else INK, TEXT)
