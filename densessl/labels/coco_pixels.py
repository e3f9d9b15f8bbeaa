"""Label maps of the classes that annotations in COCO's format outline
(https://cocodataset.org/#format-data)."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from os.path import normpath
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle

from densessl.errors import UsageError, check_keys, shown
from densessl.files.json_files import parse_json
from densessl.images.find import find_images
from densessl.labels.label_ids import IGNORED

Labelled = list[tuple[Path, Callable[[], np.ndarray]]]
BACKGROUND = 'background'
MOST_CLASSES = 254      # and the ground, in a map of bytes
REACH = 10              # of a polygon beyond the image, in sides of it


def find_coco_files(folder: Path) -> dict[str, Path]:
    """``annotations/instances_train….json`` and ``…val….json`` below a folder, by split; empty if
    there is one of them only."""
    found = {split: sorted((folder / 'annotations').glob(f'instances_{split}*.json'))
             for split in ('train', 'val')}
    return {split: paths[0] for split, paths in found.items()} if all(found.values()) else {}


def read_coco_pixels(path: Path, chosen: Sequence[str] | None = None
                     ) -> tuple[list[str], Labelled]:
    """The classes, the ground first, and the images with what draws the label map of each: objects
    over the ground, small ones over large ones; crowds have no label.

    Args:
        chosen: names of the categories that count, in the order of their ids from 1; all if None.

    Raises:
        UsageError: not such annotations, no such category, too many classes, or the images are not
            found.
    """
    try:
        content = parse_json(path.read_bytes())
        named = [str(one['name']) for one in content['categories']]
        names = list(dict.fromkeys(named) if chosen is None else chosen)
        check_keys(str(path), names, named, 'category')
        classes = {one['id']: names.index(name) + 1 for one, name in zip(
            content['categories'], named, strict=True) if name in names}
        objects: dict[Any, list[dict[str, Any]]] = {}
        for one in content['annotations']:
            if one.get('iscrowd') not in (None, 0, 1):
                raise ValueError(f'iscrowd must be 0 or 1, not {shown(one["iscrowd"])}')
            if (chosen is not None and one['category_id'] not in classes) or (
                    one['segmentation'] is None):
                continue
            shape = {'class': classes[one['category_id']], 'crowd': bool(one.get('iscrowd')),
                     'shape': one['segmentation']}
            objects.setdefault(one['image_id'], []).append(shape)
        by_name: dict[str, tuple[int, int, list[dict[str, Any]]]] = {}
        for image in content['images']:     # a file may be listed twice
            entry = by_name.setdefault(normpath(str(image['file_name'])),
                                       (int(image['height']), int(image['width']), []))
            entry[2].extend(objects.get(image['id'], []))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f'{path} cannot be used as annotations of objects in COCO\'s format: '
                         f'{type(error).__name__}: {error}') from error
    if len(names) > MOST_CLASSES:
        raise UsageError(f'{path} has {len(names)} classes; label maps hold at most '
                         f'{MOST_CLASSES}')
    images, found = find_images(path), []
    for i in range(len(images)):
        if images.name(i) in by_name:
            found.append((images.path(i), partial(draw, *by_name[images.name(i)], str(path))))
    if not found:
        raise UsageError(f'{path} names no images that are there')
    return [BACKGROUND, *names], found


def draw(height: int, width: int, objects: list[dict[str, Any]], source: str) -> np.ndarray:
    """(H, W) uint8 class indices.

    Raises:
        UsageError: an outline that cannot be read.
    """
    try:
        shapes = [(one['crowd'], _runs(one['shape'], height, width), one['class'])
                  for one in objects]
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise UsageError(f'{source} has an outline that is neither polygons nor run lengths '
                         f'of the image\'s size: {error}') from error
    label = np.zeros((height, width), np.uint8)
    for crowd, runs, value in sorted(shapes, key=lambda one: (not one[0], -int(rle.area(one[1])))):
        label[rle.decode(runs).astype(bool)] = IGNORED if crowd else value
    return label


def _runs(shape: Any, height: int, width: int) -> dict[str, Any]:
    """What a shape covers, rasterized as COCO's own code does, as its compressed run lengths."""
    if isinstance(shape, list):
        polygons = [np.asarray(one, np.float64).reshape(-1, 2).ravel() for one in shape]
        if not all((np.abs(one) <= REACH * max(height, width)).all() for one in polygons):
            raise ValueError('coordinates far outside')
        outlines = [one.tolist() for one in polygons if len(one) >= 6]      # three points
        return rle.merge(rle.frPyObjects(outlines, height, width) if outlines else [
            rle.encode(np.zeros((height, width), np.uint8, order='F'))])
    counts = shape['counts']
    counts = np.asarray(_uncompressed(counts) if isinstance(counts, str) else counts, np.int64)
    # of 0, of 1, of 0 … down the columns
    if counts.sum() != height * width or (counts < 0).any():
        raise ValueError('run lengths of another size')
    return rle.frPyObjects({'size': [height, width], 'counts': counts.tolist()}, height, width)


def _uncompressed(text: str) -> list[int]:
    """Run lengths that COCO's code has written as text: each, or its difference from the one
    before the last, in groups of five bits, the lowest first."""
    counts: list[int] = []
    value = bits = 0
    for group in (ord(letter) - 48 for letter in text):
        if not 0 <= group < 64 or bits > 60:
            raise ValueError('run lengths that are none')
        value |= (group & 31) << bits
        bits += 5
        if group & 32:      # more to come
            continue
        if group & 16:      # negative
            value -= 1 << bits
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = bits = 0
    if bits:
        raise ValueError('run lengths that are cut short')
    return counts
