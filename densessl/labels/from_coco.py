"""Label maps drawn from instances in COCO's format (https://cocodataset.org/#format-data)."""
from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as rle

from densessl.errors import UsageError, did_you_mean
from densessl.files import read_json_object, write_atomically, write_json
from densessl.images.image_names import check_listed
from densessl.labels.label_ids import IGNORED

BACKGROUND = 'background'
SPLITS = ('train', 'val')
MOST_CLASSES = 254      # of 8-bit maps, beside background and what has no label


def draw_label_maps(data: Path, out: Path, classes: Sequence[str] | None = None) -> dict[str, int]:
    """Draw a label map for every image that the annotations list.

    Smaller objects lie over larger ones; crowds have no label.

    Args:
        data: with ``annotations/instances_{train,val}*.json`` and the images beside them.
        out: gets ``images/SPLIT`` (links), ``labels/SPLIT`` and ``classes.json``.
        classes: names of the categories that count, in the order of their ids from 1; all if None.

    Returns:
        The number of images of each split.

    Raises:
        UsageError: annotations or images are missing or damaged, or there is no such category.
    """
    found = {split: _annotations(data, split) for split in SPLITS}
    named = {one['name']: one['id'] for one in found['train']['categories']}
    chosen = list(classes or named)
    for name in chosen:
        if name not in named:
            raise UsageError(f'--classes {name}: the annotations have no such category'
                             f'{did_you_mean(name, named)}; there are: {", ".join(named)}')
    if len(chosen) > MOST_CLASSES:
        raise UsageError(f'{len(chosen)} categories: a label map holds {MOST_CLASSES}; choose '
                         f'some with --classes')
    ids = {named[name]: position for position, name in enumerate(chosen, 1)}
    counts = {split: _draw_split(data, out, split, content, ids)
              for split, content in found.items()}
    write_json(out / 'classes.json', {'classes': [BACKGROUND, *chosen]})
    return counts


def _annotations(data: Path, split: str) -> dict[str, Any]:
    names = sorted((data / 'annotations').glob(f'instances_{split}*.json'))
    if not names:
        raise UsageError(f'{data} has no annotations/instances_{split}….json')
    content = read_json_object(names[0], ('images', 'annotations', 'categories'),
                               remedy='get it anew')
    check_listed([one['file_name'] for one in content['images']], names[0])
    return content


def _draw_split(data: Path, out: Path, split: str, content: Mapping[str, Any],
                ids: Mapping[int, int]) -> int:
    folder = _image_folder(data, split, content['images'][0]['file_name'])
    objects: dict[Any, list[Mapping[str, Any]]] = {}
    for one in content['annotations']:
        objects.setdefault(one['image_id'], []).append(one)
    for image in content['images']:
        name = re.sub(r'[/\\]', '-', image['file_name'])
        path = folder / image['file_name']
        if not path.is_file():
            raise UsageError(f'{path} is missing: the annotations of {split} list it')
        labels = _drawn(objects.get(image['id'], []), image['height'], image['width'], ids)
        done, png = cv2.imencode('.png', labels)
        assert done, 'OpenCV could not encode a label map'
        write_atomically((out / 'labels' / split / name).with_suffix('.png'), png.tobytes(),
                         flush=False)
        _link(path, out / 'images' / split / name)
    return len(content['images'])


def _drawn(objects: Sequence[Mapping[str, Any]], height: int, width: int, ids: Mapping[int, int]
           ) -> np.ndarray:
    """(H, W) uint8: 0 is background."""
    labels = np.zeros((height, width), np.uint8)
    shapes = [(float(shape.sum()), label, shape)
              for label, shape in _shapes(objects, height, width, ids)]
    for _, label, shape in sorted(shapes, key=lambda one: (one[1] != IGNORED, -one[0])):
        labels[shape] = label
    return labels


def _shapes(objects: Sequence[Mapping[str, Any]], height: int, width: int, ids: Mapping[int, int]
            ) -> Iterator[tuple[int, np.ndarray]]:
    for one in objects:
        shape = one['segmentation']
        if one['category_id'] not in ids or not shape:
            continue
        if isinstance(shape, list):
            shape = rle.merge(rle.frPyObjects([part for part in shape if len(part) >= 6], height,
                                              width))
        elif isinstance(shape['counts'], list):
            shape = rle.frPyObjects(shape, height, width)
        label = IGNORED if one.get('iscrowd') else ids[one['category_id']]
        yield label, rle.decode(shape).astype(bool)


def _image_folder(data: Path, split: str, first: str) -> Path:
    folders = [data / f'{split}2017', data / 'images' / f'{split}2017', data / 'images' / split,
               data / split, data / 'images', data]
    for folder in folders:
        if (folder / first).is_file():
            return folder
    raise UsageError(f'{first} of {split} is in none of '
                     f'{", ".join(str(folder) for folder in folders)}')


def _link(source: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    os.symlink(os.path.abspath(source), link)
