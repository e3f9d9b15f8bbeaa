"""COCO's annotation files as exports write them: checked, and what libraries rely on filled in."""
from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle

from densessl.data.images import UnreadableImage, image_size
from densessl.errors import UsageError
from densessl.files import parse_json

_size = cache(image_size)   # the data set is built more than once, and the metric reads it too


def read_annotations(path: Path) -> dict[str, Any]:
    """The content of a COCO JSON whose parts refer to each other as they must.

    Raises:
        UsageError: it is none, an id occurs twice, or an annotation is of an image or a category
            that is not there.
    """
    try:
        content = parse_json(path.read_bytes())
        objects, categories = content['annotations'], content['categories']
        names = ([one['file_name'] for one in content['images']]
                 + [one['name'] for one in categories])
        ids = {'images': [one['id'] for one in content['images']],
               'categories': sorted(one['id'] for one in categories),
               'annotations': [one['id'] for one in objects if one.get('id') is not None]}
        wrong = wrong_ids(ids, {'images': [one['image_id'] for one in objects],
                                'categories': [one['category_id'] for one in objects]})
        if not all(isinstance(name, str) for name in names):
            raise TypeError('file_name and name must be text')
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f'{path} is not in COCO’s format (images with id and file_name, '
                         f'annotations with image_id and category_id, categories with id and '
                         f'name): {error!r}') from error
    if wrong:
        raise UsageError(f'{path} has {wrong}')
    return content


def wrong_ids(ids: Mapping[str, Sequence[Any]], used: Mapping[str, Iterable[Any]]) -> str | None:
    """What is wrong with the ids in a file, in words; None if each is there once.

    Args:
        ids: of what a file lists, by ``images``, ``categories`` and ``annotations``.
        used: those that annotations refer to, by the same.
    """
    for kind, listed in ids.items():
        known = set(listed)
        if len(known) < len(listed):
            often, _ = Counter(listed).most_common(1)[0]
            return f'id {often!r} more than once among its {kind}; each must have its own'
        lost = [one for one in used.get(kind, ()) if one not in known]
        if lost:
            shown = f' ({", ".join(map(str, listed[:20]))})' if kind == 'categories' else ''
            return (f'annotations of {"category" if shown else "image"} {lost[0]!r}, which is not '
                    f'among its {kind}{shown}')
    return None


def complete(content: dict[str, Any], images: Path, path: Path) -> list[str]:
    """Fill in, in place, what the format has and the file may lack: sizes of images (from their
    headers), boxes (around the segmentation), areas (of the segmentation, else of the box),
    ``iscrowd`` (0) and ids of annotations.

    Args:
        content: of :func:`read_annotations`. images: the folder of the images.
        path: of the file, for messages.

    Returns:
        What was filled in, in words: ``area of 12 annotations``.

    Raises:
        UsageError: an annotation has neither box nor segmentation, or one that is none, or a size
            is missing and the image cannot be read.
    """
    sized = fill_sizes(content['images'], images, path)
    sizes = {one['id']: (one['height'], one['width']) for one in content['images']}
    filled: Counter[str] = Counter()
    for number, one in enumerate(content['annotations']):
        label = one.get('id', f'number {number + 1}')
        try:
            filled.update(_complete(one, *sizes[one['image_id']]))
        except Exception as error:     # pycocotools raises nothing more special
            raise UsageError(f'annotation {label} in {path} needs a box [x, y, width, height] or '
                             f'a segmentation (polygons or run lengths): {error!r}') from error
    lines = [f'{key} of {times} annotations' for key, times in filled.items()]
    if not all(isinstance(one.get('id'), int) and one['id'] > 0 for one in content['annotations']):
        for number, one in enumerate(content['annotations']):
            one['id'] = number + 1       # COCO's evaluation takes an id of 0 for "not found"
        lines.append(f'id of {len(content["annotations"])} annotations')
    return ([f'width and height of {sized} images'] if sized else []) + lines


def fill_sizes(images: list[dict[str, Any]], folder: Path, path: Path) -> int:
    """Fill in the sizes that ``images`` lack, as their files are displayed; how many it were."""
    without = [one for one in images if not all(isinstance(one.get(key), int) and one[key] > 0
                                                for key in ('width', 'height'))]
    if without:
        try:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                found = list(pool.map(_size, (str(folder / one['file_name']) for one in without)))
        except UnreadableImage as error:
            raise UsageError(f'{path} gives no width and height of an image that cannot be read: '
                             f'{error}') from error
        for one, (height, width) in zip(without, found, strict=True):
            one.update(height=height, width=width)
    return len(without)


def _complete(one: dict[str, Any], height: int, width: int) -> list[str]:
    """Complete one annotation of an image of this size; the keys that were filled in."""
    filled = []
    outline = one.get('segmentation')
    if isinstance(outline, list) and outline and not isinstance(outline[0], list):
        outline = one['segmentation'] = [outline]      # one polygon without the list around it
    if not one.get('bbox'):
        if not outline:
            raise ValueError('both are missing')
        one['bbox'] = _box(outline)
        filled.append('bbox')
    _, _, w, h = one['bbox']
    if not all(map(math.isfinite, one['bbox'])):
        raise ValueError('the box has no finite numbers')
    if not isinstance(one.get('area'), (int, float)) or not one['area']:
        one['area'] = _area(outline, height, width) if outline else float(w * h)
        filled += ['area'] if one['area'] else []
    if one.get('iscrowd') is None:
        one['iscrowd'] = 0
        filled.append('iscrowd')
    return filled


def _box(outline: Any) -> list[float]:
    """(x, y, width, height) around polygons [[x1, y1, …], …] or a run-length encoded mask."""
    if isinstance(outline, dict):
        return rle.toBbox(_encoded(outline)).tolist()
    x, y = np.concatenate([np.asarray(part, float).reshape(-1, 2) for part in outline]).T
    return [x.min(), y.min(), x.max() - x.min(), y.max() - y.min()]


def _area(outline: Any, height: int, width: int) -> float:
    """In pixels, as COCO's own files have it: of the polygons' union, drawn into the image."""
    if isinstance(outline, dict):
        return float(rle.area(_encoded(outline)))
    parts = [part for part in outline if len(part) >= 6]     # fewer are no polygon
    return float(rle.area(rle.merge(rle.frPyObjects(parts, height, width)))) if parts else 0.0


def _encoded(outline: dict[str, Any]) -> dict[str, Any]:
    return (rle.frPyObjects(outline, *outline['size']) if isinstance(outline['counts'], list)
            else outline)
