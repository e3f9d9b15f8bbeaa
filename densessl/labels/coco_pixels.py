"""Label maps of the classes that annotations in COCO's format outline
(https://cocodataset.org/#format-data)."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from densessl.errors import UsageError
from densessl.files import parse_json
from densessl.images.find import find_images
from densessl.labels.label_ids import IGNORED

Labelled = list[tuple[Path, Callable[[], np.ndarray]]]
MOST_CLASSES = 254      # and the ground, in a map of bytes
REACH = 10              # of a polygon beyond the image, in sides of it


def find_coco_files(folder: Path) -> dict[str, Path]:
    """``annotations/instances_train….json`` and ``…val….json`` below a folder, by split; empty if
    there is one of them only."""
    found = {split: sorted((folder / 'annotations').glob(f'instances_{split}*.json'))
             for split in ('train', 'val')}
    return {split: paths[0] for split, paths in found.items()} if all(found.values()) else {}


def read_coco_pixels(path: Path) -> tuple[list[str], Labelled]:
    """The classes, the ground first, and the images with what reads the label map of each: objects
    over the ground, small ones over large ones; crowds have no label.

    Raises:
        UsageError: not such annotations, too many classes, or the images are not found.
    """
    try:
        content = parse_json(path.read_bytes())
        classes = {one['id']: i for i, one in enumerate(content['categories'], 1)}
        names = ['background', *(str(one['name']) for one in content['categories'])]
        objects: dict[Any, list[dict[str, Any]]] = {}
        for one in content['annotations']:
            shape = {'class': classes[one['category_id']], 'crowd': bool(one.get('iscrowd')),
                     'shape': one['segmentation'], 'area': float(one.get('area', 0))}
            objects.setdefault(one['image_id'], []).append(shape)
        by_name = {str(image['file_name']): (int(image['height']), int(image['width']),
                                             objects.get(image['id'], []))
                   for image in content['images']}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f'{path} cannot be used as annotations of objects in COCO\'s format: '
                         f'{type(error).__name__}: {error}') from error
    if len(names) - 1 > MOST_CLASSES:
        raise UsageError(f'{path} has {len(names) - 1} classes; label maps hold at most '
                         f'{MOST_CLASSES}')
    images, found = find_images(path), []
    for i in range(len(images)):
        entry = by_name.get(images.name(i))
        if entry is not None:
            found.append((images.path(i), partial(draw, *entry, str(path))))
    if not found:
        raise UsageError(f'{path} names no images that are there')
    return names, found


def draw(height: int, width: int, objects: list[dict[str, Any]], source: str) -> np.ndarray:
    """(H, W) uint8 class indices.

    Raises:
        UsageError: an outline that cannot be read.
    """
    label = np.zeros((height, width), np.uint8)
    for one in sorted(objects, key=lambda one: (not one['crowd'], -one['area'])):
        try:
            _fill(label, one['shape'], IGNORED if one['crowd'] else one['class'])
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise UsageError(f'{source} has an outline that is neither polygons nor run lengths '
                             f'of the image\'s size: {error}') from error
    return label


def _fill(label: np.ndarray, shape: Any, value: int) -> None:
    height, width = label.shape
    if isinstance(shape, list):
        for polygon in shape:
            points = np.asarray(polygon, np.float64).reshape(-1, 2)
            if not (np.abs(points) <= REACH * max(height, width)).all():
                raise ValueError('coordinates far outside')
            if len(points) >= 3:
                cv2.fillPoly(label, [np.round(points).astype(np.int32)], value)
        return
    counts = np.asarray(shape['counts'], np.int64)      # of 0, of 1, of 0 … down the columns
    if counts.sum() != height * width or (counts < 0).any():
        raise ValueError('run lengths of another size')
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T
    label[inside] = value
