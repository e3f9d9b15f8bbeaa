"""A folder of images with PNG label maps: which belong together, and what the ids mean."""
from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from densessl.data.decode import UnreadableImage
from densessl.data.decode import image_size as image_dimensions
from densessl.data.file_kinds import is_clutter
from densessl.data.label_image import read_label_image
from densessl.errors import UsageError
from densessl.files import parse_json
from densessl.transfer.roots import SPLITS, require

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
IGNORED = 255    # the class index that losses and metrics leave out
LAYOUT = 'images/{train,val}/NAME.jpg (or .png …) and labels/{train,val}/NAME.png'
Pair = tuple[Path, Path]


def label_pairs(images: Path, labels: Path) -> Iterator[Pair]:
    """Each image below ``images`` with its label map: the same name below ``labels``, as PNG."""
    for image in sorted(images.rglob('*')):
        if image.suffix.lower() in IMAGES and not is_clutter(str(image.relative_to(images))):
            yield image, (labels / image.relative_to(images)).with_suffix('.png')


def ignored_ids(ignore: Any) -> set[int]:
    """The ids of pixels without label, from an id, a list of ids or None."""
    values = [] if ignore is None else ignore if isinstance(ignore, (list, tuple)) else [ignore]
    if not all(isinstance(value, int) for value in values):
        raise UsageError(f'labels.ignore must be an id or a list of ids, not {ignore!r}')
    return set(values)


@dataclass(frozen=True)
class LabelledFolder:
    """Images with label maps.

    Attributes:
        pairs: split → images and label maps. names: of the classes.
        ids: the class index of those ids that are not their own (:data:`IGNORED` for pixels
            without label).
        palette: ``{'palette': [[r, g, b]]}`` if there is one.
    """

    pairs: dict[str, list[Pair]]
    names: list[str]
    ids: dict[int, int]
    palette: dict[str, Any] = field(default_factory=dict)


def read_label_folder(root: Path, ignore: Any, option: str) -> LabelledFolder:
    """Find the images, label maps and classes below ``root``.

    Args:
        ignore: the id, or list of ids, of pixels without label. option: how the user says that.

    Raises:
        UsageError: a folder is missing or empty, or a label map is not what it must be.
    """
    require([f'{kind}/{split}' for kind in ('images', 'labels') for split in SPLITS], root,
            f'expected are {LAYOUT}')
    pairs = {split: list(label_pairs(root / 'images' / split, root / 'labels' / split))
             for split in SPLITS}
    for split, found in pairs.items():
        if not found:
            raise UsageError(f'{root / "images" / split} holds no images ({", ".join(IMAGES)})')
    names, palette, ids = read_classes(root, pairs, ignored_ids(ignore), option)
    return LabelledFolder(pairs, names, ids, palette)


def read_classes(root: Path, pairs: Mapping[str, Sequence[Pair]], ignored: set[int], option: str
                 ) -> tuple[list[str], dict[str, Any], dict[int, int]]:
    """What the ids in label maps mean.

    The classes are those of ``root/classes.json`` (``{"classes": [names], "palette":
    [[r, g, b]]}``) where it is there, else the ids that occur, in their order.

    Args:
        pairs: split → images and label maps. ignored: ids of pixels without label.
        option: how the user names one more of those.

    Returns:
        Class names, ``{'palette': …}`` if there is one, and the class index of those ids that are
        not their own (:data:`IGNORED` for ``ignored``).

    Raises:
        UsageError: a label map is missing, is none, has other pixels than its image, or an id that
            has no name; or there is one class only.
    """
    files = [pair for found in pairs.values() for pair in found]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        present = list(pool.map(_ids_in, files))
    where = {value: label for (_, label), values in zip(files, present, strict=True)
             for value in values}
    used = sorted(set(where) - ignored)
    without = dict.fromkeys(sorted(ignored & set(where)), IGNORED)
    named = root / 'classes.json'
    if named.is_file():
        names, palette = _read_classes(named)
        for value in used:
            if value >= len(names):
                raise UsageError(
                    f'{where[value]} holds id {value}, but {named} names only the ids 0 to '
                    f'{len(names) - 1}; if it marks pixels without a label: '
                    f'{option}{value}')
        return names, palette, without
    if len(used) < 2:
        raise UsageError(f'the label maps in {root / "labels"} hold {len(used)} class (ids {used}, '
                         f'without label: {sorted(without) or "none"}); two are needed at least')
    moved = {value: index for index, value in enumerate(used) if value != index}
    return [f'class {value}' for value in used], {}, moved | without


def _ids_in(pair: Pair) -> list[int]:
    """The ids that occur in a label map; checks that it is one and fits its image."""
    image, label = pair
    if not label.is_file():
        raise UsageError(f'{image} has no label map {label}')
    try:
        ids = read_label_image(label)
    except ValueError as error:
        raise UsageError(f'{label} cannot be read: {error}') from error
    try:
        height, width = image_dimensions(image)
    except UnreadableImage as error:
        raise UsageError(f'{image} cannot be read: {error.reason}') from error
    size = ids.shape[1::-1]
    if ids.ndim != 2 or ids.max(initial=0) > 255:
        raise UsageError(f'{label} is no label map: it must have one channel of ids up to 255, '
                         f'not {ids.shape[2] if ids.ndim > 2 else ids.max()}'
                         f'{" channels" if ids.ndim > 2 else ""}')
    if sorted(size) != sorted((height, width)):   # a photo may be turned by its EXIF data
        raise UsageError(f'{label} has {size[0]}×{size[1]} pixels, but its image '
                         f'{width}×{height}')
    return np.flatnonzero(np.bincount(ids.astype(np.uint8).ravel(), minlength=256)).tolist()


def _read_classes(path: Path) -> tuple[list[str], dict[str, Any]]:
    try:
        content = parse_json(path.read_text(encoding='utf-8-sig'))
        palette = content.get('palette')
        names = class_names(content['classes'] if 'classes' in content else {
            key: value for key, value in content.items() if key != 'palette'})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(f'{path} must be {{"classes": [names …]}}, {{"0": "name", …}} or '
                         f'{{"name": 0, …}}: {error}') from error
    return names, {'palette': palette} if palette else {}


def class_names(given: Any) -> list[str]:
    """The names of classes in the order of their ids, from a list of names, or from a mapping of
    ids to names or of names to ids. An id that is not named is ``class ID``.

    Raises:
        ValueError, TypeError: it is none of these.
    """
    if isinstance(given, Mapping):
        by_id = ({int(key): name for key, name in given.items()}
                 if all(key.isdecimal() for key in given)
                 else {number: name for name, number in given.items()})
        if len(by_id) < len(given) or not all(type(number) is int and 0 <= number < 256
                                              for number in by_id):
            raise ValueError('each class must have an id of its own, from 0 to 255')
        given = [by_id.get(number, f'class {number}') for number in range(max(by_id, default=-1)
                                                                          + 1)]
    if not isinstance(given, list) or not given or not all(isinstance(name, str)
                                                           for name in given):
        raise TypeError('classes must be a list of names')
    return list(given)
