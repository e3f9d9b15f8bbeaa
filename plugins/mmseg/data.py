"""Label maps as users have them: a folder of images with PNG label maps, or the layout that one of
MMSegmentation's own datasets expects."""
from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS
from PIL import Image, UnidentifiedImageError

from densessl.errors import UsageError
from densessl.transfer.roots import SPLITS, require

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
IGNORED = 255    # the class index that losses and metrics of MMSegmentation leave out
LAYOUT = 'images/{train,val}/NAME.jpg (or .png …) and labels/{train,val}/NAME.png'


class LabelFolder(BaseSegDataset):
    """Images and PNG label maps of the same name below two folders.

    Args:
        ids: pixel value in the label maps → class index, where they differ; 255 for pixels
            without a label.
    """

    def __init__(self, ids: dict[int, int], **kwargs: Any) -> None:
        self.ids = {int(value): index for value, index in ids.items()}
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        images, labels = (Path(self.data_prefix[key]) for key in ('img_path', 'seg_map_path'))
        return [{'img_path': str(image), 'seg_map_path': str(label), 'label_map': self.ids,
                 'reduce_zero_label': False, 'seg_fields': []}
                for image, label in _pairs(images, labels)]


def register() -> None:
    """Make :class:`LabelFolder` known to configs; may be repeated."""
    DATASETS.register_module(name='LabelFolder', module=LabelFolder, force=True)


def set_label_folder(cfg: Any, root: str | None) -> list[str]:
    """Point a config with ``labels = dict(ignore=…)`` at a folder of images with label maps.

    The classes are those of ``classes.json`` (``{"classes": [names], "palette": [[r, g, b]]}``)
    where it is there, else the ids that occur in the label maps, in their order.
    """
    if root is None:
        raise UsageError(f'--data-root is needed: a folder with {LAYOUT}')
    base = Path(root)
    require([f'{kind}/{split}' for kind in ('images', 'labels') for split in SPLITS], base,
            f'expected are {LAYOUT}')
    pairs = {split: list(_pairs(base / 'images' / split, base / 'labels' / split))
             for split in SPLITS}
    for split, found in pairs.items():
        if not found:
            raise UsageError(f'{base / "images" / split} holds no images ({", ".join(IMAGES)})')
    names, palette, ids = _classes(base, pairs, _ignored(cfg.labels.get('ignore')))
    for split in SPLITS:
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.update(data_root=str(base), ids=ids, metainfo={'classes': names, **palette},
                       data_prefix={'img_path': f'images/{split}',
                                    'seg_map_path': f'labels/{split}'})
    cfg.test_dataloader = cfg.val_dataloader
    _set_classes(cfg.model, len(names))
    ignored = sorted(value for value, index in ids.items() if index == IGNORED)
    without = f', id {", ".join(map(str, ignored))} without label' if ignored else ''
    return [f'{root}: {len(pairs["train"])} training and {len(pairs["val"])} validation images, '
            f'{len(names)} classes{without}']


def _pairs(images: Path, labels: Path) -> Iterator[tuple[Path, Path]]:
    for image in sorted(images.rglob('*')):
        if image.suffix.lower() in IMAGES:
            yield image, (labels / image.relative_to(images)).with_suffix('.png')


def _ignored(ignore: Any) -> set[int]:
    values = [] if ignore is None else ignore if isinstance(ignore, (list, tuple)) else [ignore]
    if not all(isinstance(value, int) for value in values):
        raise UsageError(f'labels.ignore must be an id or a list of ids, not {ignore!r}')
    return set(values)


def _classes(root: Path, pairs: dict[str, list[tuple[Path, Path]]], ignored: set[int]
             ) -> tuple[list[str], dict[str, Any], dict[int, int]]:
    """Class names, palette if there is one, and the class index of ids that are not their own."""
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
                    f'--cfg-options labels.ignore={value}')
        return names, palette, without
    if len(used) < 2:
        raise UsageError(f'the label maps in {root / "labels"} hold {len(used)} class (ids {used}, '
                         f'without label: {sorted(without) or "none"}); two are needed at least')
    moved = {value: index for index, value in enumerate(used) if value != index}
    return [f'class {value}' for value in used], {}, moved | without


def _ids_in(pair: tuple[Path, Path]) -> list[int]:
    """The ids that occur in a label map; checks that it is one and fits its image."""
    image, label = pair
    if not label.is_file():
        raise UsageError(f'{image} has no label map {label}')
    try:
        with Image.open(label) as opened:
            size, ids = opened.size, np.asarray(opened)
        with Image.open(image) as opened:
            image_size = opened.size
    except (UnidentifiedImageError, OSError) as error:
        raise UsageError(f'{label} or its image cannot be read: {error}') from error
    if ids.ndim != 2 or ids.max(initial=0) > 255:
        raise UsageError(f'{label} is no label map: it must have one channel of ids up to 255, '
                         f'not {ids.shape[2] if ids.ndim > 2 else ids.max()}'
                         f'{" channels" if ids.ndim > 2 else ""}')
    if sorted(size) != sorted(image_size):   # a photo may be turned by its EXIF data
        raise UsageError(f'{label} has {size[0]}×{size[1]} pixels, but its image '
                         f'{image_size[0]}×{image_size[1]}')
    return np.flatnonzero(np.bincount(ids.astype(np.uint8).ravel(), minlength=256)).tolist()


def _read_classes(path: Path) -> tuple[list[str], dict[str, Any]]:
    try:
        content = json.loads(path.read_text())
        names, palette = content['classes'], content.get('palette')
        if not names or not all(isinstance(name, str) for name in names):
            raise TypeError('classes must be a list of names')
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f'{path} must be {{"classes": [names …]}}: {error}') from error
    return list(names), {'palette': palette} if palette else {}


def _set_classes(node: Any, number: int) -> None:
    if isinstance(node, dict):
        if 'num_classes' in node:
            node['num_classes'] = number
        for value in node.values():
            _set_classes(value, number)
    elif isinstance(node, (list, tuple)):
        for value in node:
            _set_classes(value, number)
