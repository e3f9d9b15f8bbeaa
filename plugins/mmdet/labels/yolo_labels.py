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
from densessl.images.image_names import read_names
from densessl_plugins.mmdet.labels.finding_log import FindingLog
from densessl_plugins.mmdet.labels.image_frames import displayed_sizes, leave_out
from densessl_plugins.mmdet.labels.outlines import box_around, finite_numbers

NAME_FILES = ('data.yaml', 'data.yml', 'dataset.yaml', 'classes.txt', 'obj.names',
              'labels/classes.txt')
MOST_CLASSES = 2 ** 16     # a head has weights for every number up to the highest
_WIDE = 1.5    # a share above this is no rounding, but a number of pixels


def name_file(root: Path) -> Path | None:
    """The file below ``root`` that has the names of the classes, if there is one."""
    return next((root / name for name in NAME_FILES if (root / name).is_file()), None)


def yolo_names(root: Path) -> list[str] | None:
    """The names of the classes in the order of their numbers, from :func:`name_file`; None if there
    is none.

    Raises:
        UsageError: the file has no names, or does not say which number each has.
    """
    path = name_file(root)
    if path is None:
        return None
    if path.suffix not in ('.txt', '.names'):
        return _names_in_yaml(path)
    names = [line.strip() for line in _text(path).rstrip().splitlines()]
    if not all(names) or not names:
        where = f'has an empty line {names.index("") + 1}' if names else 'is empty'
        raise UsageError(f'{path} {where}; it must have the name of class 0 in its first line, '
                         f'that of class 1 in the next, and so on')
    return names


def _names_in_yaml(path: Path) -> list[str]:
    names = read_data_file(path).get('names')
    if names and isinstance(names, dict) and all(key.isdecimal() and len(key) < 10
                                                 for key in names):
        by_number = {int(key): name for key, name in names.items()}
        if len(by_number) == len(names) and max(by_number) < MOST_CLASSES:
            names = [by_number.get(number, f'class {number}')
                     for number in range(max(by_number) + 1)]
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        return names
    raise UsageError(f'{path} must have names: a list, or for each class a number of its own, from '
                     f'0 to {MOST_CLASSES - 1}, and a name; not {shown(names)}')


def read_data_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, in which every value is text (``no`` is a word); UsageError if it
    holds something else."""
    content = read_yaml(path, words=True)
    if not isinstance(content, dict):
        raise UsageError(f'{path} must be a mapping with names, not {type(content).__name__}')
    return content


def _text(path: Path) -> str:
    """The text of a file in UTF-8 or UTF-16, what is neither replaced by a sign for it."""
    return read_names(path).encode('utf-8', 'surrogateescape').decode('utf-8', 'replace')


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
    if number % 1 or number < 0 or number >= (MOST_CLASSES if names is None else len(names)):
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
