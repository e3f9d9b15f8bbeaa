"""What the input benchmark reads: 500 × 375 JPEGs and a mask store of them."""
from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
from mask_pictures import bench_data

from densessl.demo.scenes import draw_scene
from densessl.images.find import find_images
from densessl.images.image_list import ImageList
from densessl.masks.build import make_masks
from densessl.masks.store import MaskStore
from densessl.pixels.decode import read_image
from densessl.plugins import load_plugins
from densessl.registry import MASK_GENERATORS

HEIGHT, WIDTH, QUALITY = 375, 500, 90     # ImageNet's commonest size


def prepare(folder: Path, source: Path | None, number: int) -> tuple[ImageList, MaskStore, str]:
    """``number`` images of ``source`` in ``folder``, and their masks; and a line on them.

    Args:
        source: any folder of images; None for the photographs of coco256 where public data sets
            are at hand, else drawn scenes.
    """
    if source is None and (bench_data() / 'coco256').is_dir():
        source = bench_data() / 'coco256'
    shutil.rmtree(folder, ignore_errors=True)
    (folder / 'images').mkdir(parents=True)
    pictures = _photographs(source, number) if source else _scenes(number)
    written = 0
    for picture in pictures:
        cv2.imwrite(str(folder / 'images' / f'{written:04d}.jpg'), picture[..., ::-1],
                    [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        written += 1
    load_plugins()
    images = find_images(folder / 'images')
    generator = MASK_GENERATORS.build(dict(type='felzenszwalb', scale=1000, sigma=0.8,
                                           min_size=1000))
    make_masks(images, folder / 'masks', generator, progress=False)
    size = np.mean([images.path(i).stat().st_size for i in range(written)]) / 1000
    what = f'photographs of {source.name}' if source else 'drawn scenes'
    return images, MaskStore(folder / 'masks'), (f'{written} {what} as {WIDTH}×{HEIGHT} JPEGs of '
                                                 f'quality {QUALITY}, {size:.0f} kB on average')


def _photographs(source: Path, number: int):
    """The first ``number`` that are wider than high, cut to 4:3."""
    found = find_images(source)
    kept = 0
    for i in range(len(found)):
        image = read_image(found.path(i))
        height, width = image.shape[:2]
        if width < height:
            continue
        scale = max(HEIGHT / height, WIDTH / width)
        shape = max(WIDTH, round(width * scale)), max(HEIGHT, round(height * scale))
        image = cv2.resize(image, shape, interpolation=cv2.INTER_AREA if scale < 1
                           else cv2.INTER_CUBIC)
        top, left = (shape[1] - HEIGHT) // 2, (shape[0] - WIDTH) // 2
        yield image[top:top + HEIGHT, left:left + WIDTH]
        kept += 1
        if kept == number:
            return


def _scenes(number: int):
    for seed in range(number):
        yield draw_scene(seed, size=(HEIGHT, WIDTH)).image
