"""The objects of annotations in COCO's format (https://cocodataset.org/#format-data)."""
from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import Any

import numpy as np

from densessl import MaskGenerator
from densessl.errors import UsageError, shown
from densessl.files.json_files import parse_json
from densessl.images.image_names import check_listed
from densessl_plugins.masks.label_maps import as_regions, read_labels


class Coco(MaskGenerator):
    """Every annotated object or panoptic segment is a region, what is left over is one more.

    Where instances overlap, those later in the file lie over earlier ones, and all over crowds.
    An image without annotations is one region.

    Args:
        annotations: a JSON file of instances (polygons or RLE) or of panoptic segments, whose PNGs
            are in the folder of the same name (``panoptic_val2017.json``, ``panoptic_val2017/``).
    """

    name = 'coco'

    def __init__(self, *, annotations: str) -> None:
        self.annotations = os.path.abspath(os.path.expanduser(annotations))
        if not os.path.isfile(self.annotations):
            raise UsageError(f'coco needs a JSON file of annotations, not {annotations}')
        self._entries: dict[str, dict[str, Any]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {'_entries': None}       # every worker process reads the file itself

    def for_image(self, name: str, image: np.ndarray) -> np.ndarray:
        """Draw the regions of the image whose ``file_name`` is ``name`` or ends it.

        Raises:
            LookupError: the file has no such image.
            ValueError: the file gives the image another size.
        """
        entry = self._entry(name)
        if (entry['height'], entry['width']) != image.shape[:2]:
            raise ValueError(f'annotated at {entry["width"]}×{entry["height"]}, but it is '
                             f'{image.shape[1]}×{image.shape[0]} as displayed')
        if 'panoptic' in entry:
            return as_regions(read_labels(self._maps / entry['panoptic']))
        return as_regions(_draw(entry))

    @property
    def _maps(self) -> Path:
        return Path(self.annotations).with_suffix('')

    def files_for(self, name: str) -> list[str | Path]:
        if not self._maps.is_dir():             # not panoptic: what the JSON says need not be read
            return [self.annotations]
        entry = self._entry(name)
        maps = [self._maps / entry['panoptic']] if 'panoptic' in entry else []
        return [self.annotations, *maps]

    def _entry(self, name: str) -> dict[str, Any]:
        if self._entries is None:
            self._entries = _read(self.annotations)
        parts = name.split('/')
        for start in range(len(parts)):                 # 'val/a.jpg', then 'a.jpg'
            entry = self._entries.get('/'.join(parts[start:]))
            if entry:
                return entry
        raise LookupError(f'{name} is not in {self.annotations}')


def _read(path: str) -> dict[str, dict[str, Any]]:
    """Images by ``file_name``, and by its last part where that is unique, each with its size and
    its ``objects`` or the name of its ``panoptic`` PNG."""
    try:
        content = parse_json(Path(path).read_bytes())
        images = {image['id']: {key: image[key] for key in ('file_name', 'height', 'width')}
                  | {'objects': []} for image in content['images']}
        for one in content['annotations']:
            if one.get('iscrowd') not in (None, 0, 1):
                raise ValueError(f'iscrowd must be 0 or 1, not {shown(one["iscrowd"])}')
            entry = images[one['image_id']]
            if 'segments_info' in one:
                if entry.setdefault('panoptic', one['file_name']) != one['file_name']:
                    raise ValueError(f'two annotations of image {entry["file_name"]}')
            else:
                entry['objects'].append((one.get('iscrowd', 0), one['segmentation']))
        names = [entry['file_name'] for entry in images.values()]
        maps = [entry['panoptic'] for entry in images.values() if 'panoptic' in entry]
        if not all(isinstance(name, str) for name in (*names, *maps)):
            raise TypeError('file_name must be text')
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f'{path} cannot be used as annotations in COCO\'s format: '
                         f'{type(error).__name__}: {error}') from error
    check_listed(maps, Path(path))      # they are opened beside the file
    entries: dict[str, Any] = {}
    for entry in images.values():
        short = posixpath.basename(entry['file_name'])
        entries[short] = entry if short not in entries else None
    return entries | {posixpath.normpath(entry['file_name']): entry for entry in images.values()}


def _draw(entry: dict[str, Any]) -> np.ndarray:
    """(H, W) int32: 0 is background, the objects count from 1."""
    from pycocotools import mask as rle
    height, width = entry['height'], entry['width']
    labels = np.zeros((height, width), np.int32)
    ordered = sorted(entry['objects'], key=lambda one: not one[0])      # crowds first; stable
    for i, (_, shape) in enumerate(ordered, 1):
        _check_shape(shape, height, width)
        if isinstance(shape, list):
            polygons = [polygon for polygon in shape if len(polygon) >= 6]
            if not polygons:
                continue
            shape = rle.merge(rle.frPyObjects(polygons, height, width))
        elif isinstance(shape['counts'], list):
            shape = rle.frPyObjects(shape, height, width)
        labels[rle.decode(shape).astype(bool)] = i
    return labels


def _check_shape(shape: Any, height: int, width: int) -> None:
    """Bound what goes to pycocotools, whose compiled code crashes on coordinates far outside."""
    if isinstance(shape, list):
        reach = 10 * max(height, width)
        if not all(isinstance(polygon, list) and all(
                type(value) in (int, float) and abs(value) <= reach for value in polygon)
                for polygon in shape):
            raise ValueError(f'a polygon must be numbers, none farther out than {reach} pixels')
        return
    if not isinstance(shape, dict) or list(shape.get('size', ())) != [height, width]:
        raise ValueError(f'a mask must be polygons, or RLE of the size [{height}, {width}]')
    counts = shape.get('counts')
    if not isinstance(counts, str) and not (
            isinstance(counts, list) and all(type(one) is int and one >= 0 for one in counts)
            and sum(counts) == height * width):
        raise ValueError(f'the counts of an RLE must be a string, or numbers that sum up to '
                         f'{height * width}')
