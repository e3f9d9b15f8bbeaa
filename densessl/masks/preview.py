"""A picture of some images with their masks, to see what a generator's parameters do."""
from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from densessl.errors import UsageError
from densessl.images.image_list import ImageList
from densessl.pictures.figures import draw_regions, fit, mosaic, write_picture

HEIGHT, WIDTH = 240, 360     # of a tile, in pixels


def write_preview(path: Path, images: ImageList, count: int,
                  masks_of: Callable[[int, np.ndarray], Iterable[np.ndarray]]) -> int:
    """Write a picture: a row for each of ``count`` images, spread evenly over the list; on the
    left the image, then its masks.

    Args:
        path: the picture, a JPEG.
        masks_of: gives the label maps (H, W) of an image by its position and pixels.

    Returns:
        How many images are in it; one that cannot be read or divided is left out and reported.

    Raises:
        UsageError: none could be drawn, or ``path`` cannot be written.
    """
    rows = []
    for i in np.unique(np.linspace(0, len(images) - 1, count).round().astype(int)):
        try:
            image = images.read(i)
            drawn = [draw_regions(image, labels, fill=0.5, lines='thin')
                     for labels in masks_of(int(i), image)]
        except UsageError:
            raise                    # the input of all images is wrong, not this one
        except (Exception, SystemExit) as error:    # a generator may fail on one odd image
            print(f'{images.name(i)} is left out: {type(error).__name__}: {error}',
                  file=sys.stderr)
            continue
        rows.append([fit(picture, HEIGHT, WIDTH) for picture in (image, *drawn)])
    if not rows:
        raise UsageError(f'none of {count} images of {images.source} could be drawn')
    write_picture(path, mosaic(rows), quality=90)
    return len(rows)
