"""A picture of some images with their masks, to see what a generator's parameters do."""
from __future__ import annotations

import colorsys
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np

from densessl.errors import UsageError
from densessl.files import write_atomically
from densessl.images.image_list import ImageList, UnreadableImage

HEIGHT, WIDTH, GAP = 240, 360, 8     # of a tile and between them, in pixels


def write_preview(path: Path, images: ImageList, count: int,
                  masks_of: Callable[[int, np.ndarray], Iterable[np.ndarray]]) -> int:
    """Write a picture: a row for each of ``count`` images, spread evenly over the list; on the
    left the image, then its masks.

    Args:
        path: the picture, a JPEG.
        masks_of: gives the label maps (H, W) of an image by its position and pixels.

    Returns:
        How many images are in it; one that cannot be read or divided is left out and said.

    Raises:
        UsageError: none could be drawn, or ``path`` cannot be written.
    """
    rows = []
    for i in np.unique(np.linspace(0, len(images) - 1, count).round().astype(int)):
        try:
            image = images.read(i)
            masks = list(masks_of(int(i), image))
        except (UnreadableImage, ValueError, LookupError, OSError) as error:
            print(f'{images.name(i)} is left out: {error}', file=sys.stderr)
            continue
        rows.append([fit(image), *(fit(overlay(image, labels)) for labels in masks)])
    if not rows:
        raise UsageError(f'none of {count} images of {images.source} could be drawn')
    _, data = cv2.imencode('.jpg', mosaic(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data.tobytes())
    return len(rows)


def overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The image (H, W, 3) uint8 tinted by region, with white lines between the regions (H, W)."""
    if labels.shape != image.shape[:2]:
        raise ValueError(f'a mask of shape {labels.shape} for an image of {image.shape[:2]}')
    tint = np.array([colorsys.hsv_to_rgb(0.618 * i % 1, 0.75, 0.95)     # golden ratio: hues apart
                     for i in range(int(labels.max()) + 1)]) * 255
    mixed = (0.5 * image + 0.5 * tint[labels]).astype(np.uint8)
    edge = np.zeros(labels.shape, bool)
    edge[:-1] |= labels[1:] != labels[:-1]
    edge[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    mixed[edge] = 255
    return mixed


def fit(image: np.ndarray, high: int = HEIGHT, wide: int = WIDTH) -> np.ndarray:
    """(high, wide, 3): the image as large as fits, centered on white."""
    scale = min(high / image.shape[0], wide / image.shape[1])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    tile = np.full((high, wide, 3), 255, np.uint8)
    top, left = (high - height) // 2, (wide - width) // 2
    tile[top:top + height, left:left + width] = small
    return tile


def mosaic(rows: list[list[np.ndarray]], gap: tuple[int, int, int] = (255, 255, 255)
           ) -> np.ndarray:
    """Rows of tiles of one size, a gap of that color to the right of and below each."""
    padded = [np.hstack([cv2.copyMakeBorder(tile, 0, GAP, 0, GAP, cv2.BORDER_CONSTANT, value=gap)
                         for tile in row]) for row in rows]
    return np.vstack(padded)
