"""The pictures that mask generators are measured on: photos that people outlined, or drawn scenes.

Photos are BSDS500's (Arbeláez et al. 2011), not part of this project: a folder with
``images/val/NAME.jpg`` and ``labels/val/NAME_K.png``, the label map of person K.
"""
from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from densessl.demo.scenes import draw_scene
from densessl.pixels.decode import read_image

DATA = 'DENSESSL_BENCH_DATA'
SMALL, LARGE = (321, 481), (768, 1024)      # (H, W); upright pictures have the sides exchanged


@dataclass(frozen=True)
class Picture:
    """An image, (H, W, 3) uint8 RGB, and its true label maps, each (H, W): one a person."""

    name: str
    image: np.ndarray
    truths: list[np.ndarray]

    def resized(self, size: tuple[int, int]) -> Picture:
        """Scaled to ``size`` (H, W), or (W, H) if it is upright."""
        upright = self.image.shape[0] > self.image.shape[1]
        height, width = size[::-1] if upright else size
        image = cv2.resize(self.image, (width, height), interpolation=cv2.INTER_CUBIC)
        truths = [cv2.resize(truth, (width, height), interpolation=cv2.INTER_NEAREST)
                  for truth in self.truths]
        return Picture(self.name, image, truths)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what :func:`pictures` reads."""
    parser.add_argument('--data', type=Path, metavar='DIR',
                        help='BSDS500 (default: $DENSESSL_BENCH_DATA/bsds500, else '
                             '../shared/data/bsds500 beside the repository, else drawn scenes)')
    parser.add_argument('--images', type=int, default=100, metavar='N', help='at most')


def pictures(data: Path | None, count: int) -> tuple[str, list[Picture]]:
    """``count`` pictures of BSDS500 at ``data`` or where it is looked for, else of drawn scenes;
    and what they are, in words."""
    folder = data or bench_data() / 'bsds500'
    found = list(_outlined(folder, count)) if folder.is_dir() else []
    if found:
        return f'{len(found)} photos of BSDS500 val, outlined by several people each', found
    if data:
        raise SystemExit(f'no images/val/*.jpg with labels/val/*_K.png in {data}')
    print(f'No BSDS500 in {folder} (--data DIR or ${DATA} says where it is): drawn scenes instead.')
    scenes = [(seed, draw_scene(seed, size=SMALL)) for seed in range(min(count, 20))]
    return f'{len(scenes)} drawn scenes, with their class maps', [
        Picture(f'{seed:05d}', scene.image, [scene.labels]) for seed, scene in scenes]


def bench_data() -> Path:
    """Where public data sets are: ``$DENSESSL_BENCH_DATA``, else ``../shared/data`` beside the
    repository. It may not exist."""
    return Path(os.environ.get(DATA) or Path(__file__).parents[2] / 'shared' / 'data')


def _outlined(folder: Path, count: int) -> Iterator[Picture]:
    for path in sorted((folder / 'images' / 'val').glob('*.jpg'))[:count]:
        truths = sorted((folder / 'labels' / 'val').glob(f'{path.stem}_*.png'))
        if truths:
            yield Picture(path.stem, read_image(path),
                          [cv2.imread(str(truth), cv2.IMREAD_UNCHANGED) for truth in truths])


def write_first_truths(folder: Path, some: list[Picture]) -> list[dict[str, str]]:
    """Write the first true label map of every picture as a user would have it: as a folder of
    PNGs and as a JSON in COCO's format. Returns the configs of the generators that read them."""
    from pycocotools import mask as rle
    images, annotations = [], []
    (folder / 'maps').mkdir(parents=True)
    for i, picture in enumerate(some):
        truth = picture.truths[0]
        cv2.imwrite(str(folder / 'maps' / f'{picture.name}.png'), truth)
        images.append({'id': i, 'file_name': f'{picture.name}.jpg', 'height': truth.shape[0],
                       'width': truth.shape[1]})
        for label in np.unique(truth):
            shape = rle.encode(np.asfortranarray(truth == label, np.uint8))
            annotations.append({'image_id': i, 'segmentation':
                                {'size': shape['size'], 'counts': shape['counts'].decode()}})
    path = folder / 'instances.json'
    path.write_text(json.dumps({'images': images, 'annotations': annotations}))
    return [dict(type='label_maps', folder=str(folder / 'maps')),
            dict(type='coco', annotations=str(path))]
