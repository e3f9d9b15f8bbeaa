"""The labelled images that a run is probed on: a small, fixed choice, read once."""
from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from torch import Tensor

from densessl.bounds import NotNegative, Range, check_value, check_values
from densessl.errors import UsageError, check_keys, shown
from densessl.images.image_list import ImageList
from densessl.images.range_survey import with_rule
from densessl.labels.coco_pixels import find_coco_files, read_coco_pixels
from densessl.labels.label_folder import LabelId
from densessl.labels.pixel_labels import (
    at_size,
    find_pixel_labels,
    read_classes,
    read_displayed,
)
from densessl.machine.cores import cores
from densessl.pixels.pixel_rule import PixelRule

Item = tuple[Path, Callable[[], np.ndarray]]
Count = Annotated[int, Range(1, 2 ** 31 - 1)]
MULTIPLE = 32       # sides of the images: of the strides of all common backbones


@dataclass(frozen=True)
class ProbeSettings:
    """A config's ``probe``.

    Attributes:
        data: labelled images: a folder in one of the layouts of ``densessl probe --data``, with
            COCO's ``annotations``, or a COCO JSON; None: no probe.
        interval: iterations between two probes; None: so many that they take 2 % of the time.
        stop_below_start: after how many probes in a row below the start the run ends; None: never.
        images: at most so many are read to learn from, and half as many to score on.
        cells: at most so many feature vectors are learnt from.
        size: short side of the images in pixels. square: resize to squares.
        stage: which of the backbone's maps, finest first.
        decay: λ of the probe's weights.
        ignore, map: ids without label, and id → id that is meant, of a folder of label maps.
    """

    data: str | None = None
    interval: Count | None = None
    stop_below_start: Count | None = None
    images: Annotated[int, Range(2, 2 ** 16)] = 64
    cells: Annotated[int, Range(16, 2 ** 20)] = 4096
    size: Annotated[int, Range(32, 2 ** 13)] = 224
    square: bool = False
    stage: Annotated[int, Range(-100, 100)] = -1
    decay: NotNegative = 1e-3
    ignore: Sequence[LabelId] = (255,)
    map: Mapping[LabelId, LabelId] | None = None


def read_settings(section: Any) -> ProbeSettings:
    """What a config's ``probe`` says: a path, or a dict.

    Raises:
        UsageError: an unknown key, or a value that is not allowed.
    """
    check_value('probe', section, str | dict | None)
    given = {'data': section} if isinstance(section, str) else dict(section or {})
    check_keys('probe', given, (field.name for field in fields(ProbeSettings)))
    check_values(ProbeSettings, given, 'probe.')
    return ProbeSettings(**given)


def probe_settings(cfg: Mapping[str, Any]) -> ProbeSettings | None:
    """The same of a run with ``cfg`` that is about to start; None if there is to be no probe.

    Raises:
        UsageError: as :func:`read_settings`, or something that needs a probe.
    """
    settings = read_settings(cfg.get('probe'))
    if settings.data:
        return settings
    lone = ('checkpoint.keep_best' if cfg['checkpoint'].get('keep_best') else
            'probe.stop_below_start' if settings.stop_below_start else None)
    if lone:
        raise UsageError(f'{lone} goes by a probe on labelled images: give them with --probe DATA')
    return None


@dataclass(frozen=True)
class Pixels:
    """Images (3, h, w) uint8 and their label maps near a quarter of that size, (h/4, w/4) uint8."""

    images: list[Tensor]
    labels: list[Tensor]


@dataclass(frozen=True)
class LabelledImages:
    """What a probe learns from and what it is scored on."""

    names: list[str]
    train: Pixels
    val: Pixels


def find_items(settings: ProbeSettings) -> tuple[list[str], list[Item], list[Item]]:
    """The classes, and which images are learnt from and scored on: the same for the same data.

    Raises:
        UsageError: there are none.
    """
    root = Path(settings.data)
    try:
        is_file = root.is_file()
    except OSError as error:        # a name that no system takes
        raise UsageError(f'probe.data {shown(settings.data)}: {error.strerror}') from error
    if is_file:      # one split: every third image is scored on
        names, found = read_coco_pixels(root)
        train, val = [one for i, one in enumerate(found) if i % 3 != 2], found[2::3]
    elif files := find_coco_files(root):
        (names, train), (others, val) = (read_coco_pixels(files[split])
                                         for split in ('train', 'val'))
        if names != others:
            raise UsageError(f'{files["train"]} and {files["val"]} name different classes')
    else:
        data = find_pixel_labels(root, list(settings.ignore), settings.map)
        names = data.names
        train, val = ([(image, partial(read_classes, label, data.meaning.table))
                       for image, label in data.pairs[split]] for split in ('train', 'val'))
    if not train or not val:
        raise UsageError(f'probe.data {root}: at least 3 labelled images are needed')
    return names, _evenly(train, settings.images), _evenly(val, max(1, settings.images // 2))


def read_labelled(settings: ProbeSettings, rule: PixelRule) -> LabelledImages:
    """Read the images of a probe, by the ``rule`` of the run, and keep them in memory.

    Raises:
        UsageError: there are none, or one of them or of their label maps cannot be used.
    """
    names, train, val = find_items(settings)
    paths = [os.path.abspath(image) for image, _ in train]
    rule = with_rule(ImageList.of_paths(paths), rule, say=False).rule

    read = partial(_read, settings=settings, rule=rule)
    with ThreadPoolExecutor(min(8, cores())) as pool:
        parts = [list(pool.map(read, items)) for items in (train, val)]
    return LabelledImages(names, *(Pixels([image for image, _ in part],
                                          [label for _, label in part]) for part in parts))


def _evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most ``most`` of ``items``, evenly over all."""
    most = min(most, len(items))
    return [items[i * len(items) // most] for i in range(most)]


def _read(item: Item, settings: ProbeSettings, rule: PixelRule) -> tuple[Tensor, Tensor]:
    path, read_label = item
    image, label = read_displayed(path, rule), read_label()
    if label.shape != image.shape[:2]:
        raise UsageError(f'{path} is displayed at {image.shape[1]}×{image.shape[0]} pixels, but '
                         f'its labels have {label.shape[1]}×{label.shape[0]}')
    resized, small = at_size(image, label, settings.size, MULTIPLE, settings.square)
    return resized.contiguous(), small
