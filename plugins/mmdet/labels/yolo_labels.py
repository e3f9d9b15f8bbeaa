"""Annotations as YOLO's text files, boxes or polygons in shares of the image, in COCO's form."""
from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from densessl.errors import UsageError, shown
from densessl.files.yaml_files import read_yaml
from densessl.images.image_list import UnreadableImage
from densessl_plugins.mmdet.labels.finding_log import FindingLog
from densessl_plugins.mmdet.labels.image_frames import displayed_sizes, leave_out
from densessl_plugins.mmdet.labels.outlines import box_around, finite_numbers

NAME_FILES = ('data.yaml', 'data.yml', 'dataset.yaml', 'classes.txt', 'obj.names',
              'labels/classes.txt')
_WIDE = 1.5    # a share above this is no rounding, but a number of pixels


def yolo_names(root: Path) -> list[str] | None:
    """The names of the classes in the order of their numbers, from the file below ``root`` that
    has them; None if there is none.

    Raises:
        UsageError: the file has no names.
    """
    path = next((root / name for name in NAME_FILES if (root / name).is_file()), None)
    if path is None:
        return None
    text = path.read_text(encoding='utf-8-sig', errors='replace')
    if path.suffix in ('.txt', '.names'):
        return [line.strip() for line in text.splitlines() if line.strip()]
    names = read_data_file(path).get('names')
    if isinstance(names, dict) and names and all(str(key).isdecimal() for key in names):
        by_number = {int(key): str(name) for key, name in names.items()}
        if len(by_number) < len(names):
            raise UsageError(f'{path} gives two names to one class: {shown(names)}')
        return [by_number.get(number, f'class {number}') for number in range(max(by_number) + 1)]
    if isinstance(names, list) and names:
        return [str(name) for name in names]
    raise UsageError(f'{path} must have names: a list, or a number and a name for each class; not '
                     f'{shown(names)}')


def read_data_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; UsageError if it holds something else."""
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UsageError(f'{path} must be a mapping with names, not {type(content).__name__}')
    return content


def yolo_content(pairs: Sequence[tuple[Path, Path | None]], root: Path,
                 names: Sequence[str] | None, log: FindingLog) -> dict[str, Any]:
    """The annotations of ``pairs`` of an image and its text file, as the content of a COCO JSON.

    Args:
        pairs: an image without objects may have no file.
        root: the folder that the names of images are relative to.
        names: of the classes; None: ``class 0`` … as far as they occur.

    Returns:
        The content; without images that cannot be read, for without their size boxes mean nothing.
    """
    sizes = displayed_sizes(str(image) for image, _ in pairs)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        lines = list(pool.map(_lines, (label for _, label in pairs)))
    images, objects = [], []
    for number, ((image, label), size, found) in enumerate(
            zip(pairs, sizes, lines, strict=True), 1):
        if isinstance(size, UnreadableImage):
            leave_out(image, size, len(found), log)
            continue
        images.append({'id': number, 'file_name': os.path.relpath(image, root),
                       'height': size[0], 'width': size[1]})
        for line in found:
            one, fault = _object(line, size, names)
            if fault:
                log.add(fault, str(label))
            else:
                objects.append({**one, 'id': len(objects) + 1, 'image_id': number, 'iscrowd': 0})
    if names is None:
        last = max((one['category_id'] for one in objects), default=-1)
        names = [f'class {number}' for number in range(last + 1)]
    return {'images': images, 'annotations': objects,
            'categories': [{'id': number, 'name': name} for number, name in enumerate(names)]}


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    text = path.read_text(encoding='utf-8-sig', errors='replace')
    return [line for line in text.splitlines() if line.strip()]


def _object(line: str, size: tuple[int, int], names: Sequence[str] | None
            ) -> tuple[dict[str, Any], str]:
    """An annotation of a line ``class cx cy w h`` or ``class x1 y1 x2 y2 x3 y3 …``; or what is
    wrong with it."""
    values, (height, width) = finite_numbers(line.replace(',', ' ').split()), size
    if values is None or not (len(values) == 5 or (len(values) >= 7 and len(values) % 2)):
        return {}, 'have a line that is neither "class cx cy w h" nor "class x1 y1 x2 y2 x3 y3 …"'
    number, *shares = values
    if number % 1 or number < 0 or (names is not None and number >= len(names)):
        return {}, f'are of class {number:g}, which has no name'
    if max(shares) > _WIDE or min(shares) < -_WIDE / 3:
        return {}, 'have coordinates that are not shares of the image (0 … 1)'
    if len(shares) == 4:
        x, y, w, h = shares
        return {'category_id': int(number), 'area': abs(w * width * h * height), 'bbox': [
            (x - w / 2) * width, (y - h / 2) * height, w * width, h * height]}, ''
    outline = [[value * (height if at % 2 else width) for at, value in enumerate(shares)]]
    return {'category_id': int(number), 'segmentation': outline, 'bbox': list(map(
        float, box_around(outline)))}, ''
