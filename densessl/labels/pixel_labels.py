"""Images with label maps to probe on: ``DIR/images/{train,val}`` with PNG label maps in
``DIR/labels/{train,val}``, or the layout of a public data set that a target's library reads. The
layout is recognized by its folders."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from densessl.backbones import target_names
from densessl.errors import UsageError
from densessl.labels.data_report import DataReport, Finding
from densessl.labels.label_folder import (
    LAYOUT,
    LabelLayout,
    PixelLabels,
    ignored_ids,
    read_label_folder,
    stray_labels,
)
from densessl.labels.label_ids import IGNORED, LabelOptions, UnusableMap, read_ids
from densessl.pixels.decode import UnreadableImage, read_image
from densessl.pixels.pixel_rule import PLAIN, PixelRule
from densessl.pixels.scaled_size import scaled_size
from densessl.registry import TRANSFER_TARGETS

OPTIONS = LabelOptions('--ignore ', '--map 255=1')
NEAR_QUARTER = 4    # the head is trained on labels at this stride: finer than any backbone's map


def label_reports(data: PixelLabels) -> list[DataReport]:
    """What there is in each split, for the pass that opens it."""
    return [DataReport(
        split, f'{data.root} ({split})', len(found), len(found), maps=data.meaning,
        samples=tuple((str(image), str(label)) for image, label in found),
        findings=tuple(Finding('have no image', tuple(strays), unit='label maps')
                       for strays in [data.strays.get(split)] if strays))
        for split, found in data.pairs.items()]


def find_pixel_labels(root: str | Path, ignore: Any = 255, moved: Mapping[int, int] | None = None
                      ) -> PixelLabels:
    """Find labelled images below ``root``, in whichever of the layouts it has. Files are not
    opened, except for the ids in a folder without ``classes.json``.

    Args:
        ignore: id, or list of ids, of pixels without label, in a folder of label maps.
        moved: id in those files → id that is meant.

    Raises:
        UsageError: no known layout, or a part of it is missing; ``ignore`` or ``moved`` where they
            do nothing.
    """
    base, layouts = Path(root), _layouts()
    if not base.is_dir():
        names = ' or '.join(layout.name for layout in layouts)
        raise UsageError(f'no folder {base}; --data expects {LAYOUT}, or the layout of {names}')
    for layout in layouts:
        for folder in layout.folders(base):
            if all((folder / part).is_dir() for part in layout.parts):
                if moved or ignored_ids(ignore) != {IGNORED}:
                    raise UsageError(f'{base} is laid out as {layout.name}, whose ids are known: '
                                     f'ids to ignore or to map do nothing there; leave them out')
                return _nonempty(layout.read(folder))
    if not (base / 'images').is_dir():
        known = '; or '.join([LAYOUT, *(f'{", ".join(layout.parts)} ({layout.name})'
                                        for layout in layouts)])
        raise UsageError(f'{base} has none of the known layouts: {known}')
    found = read_label_folder(base, ignore, OPTIONS, moved)
    return replace(found, strays={
        split: stray_labels(base / 'labels' / split, (label for _, label in pairs))
        for split, pairs in found.pairs.items()})


def layout_of_pixel_labels(root: Path) -> str | None:
    """What label maps below ``root`` are laid out as, by two telling folders; None if by none."""
    telling = [('images and label maps', ('images', 'labels'), [root]),
               *((layout.name, layout.parts[:2], layout.folders(root)) for layout in _layouts())]
    for name, parts, folders in telling:
        if any(all((folder / part).is_dir() for part in parts) for folder in folders):
            return f'{"/ and ".join(parts)}/ of {name}'
    return None


def _layouts() -> list[LabelLayout]:
    """Those of public data sets, from all targets."""
    return [layout for name in target_names()
            for layout in TRANSFER_TARGETS.get(name)().label_layouts()]


def _nonempty(data: PixelLabels) -> PixelLabels:
    for split, found in data.pairs.items():
        if not found:
            raise UsageError(f'there are no images for {split}')
    return data


class PixelData(Dataset):
    """Resized images and their label maps.

    An item is the image (3, h, w) uint8 RGB; its label map (H, W) uint8 at full size; and the
    label map near a quarter of the image's size. The image's sides are multiples of ``multiple``:
    the short side near ``size``, or both sides ``size`` if ``square``.
    """

    def __init__(self, data: PixelLabels, split: str, size: int, multiple: int, square: bool,
                 rule: PixelRule = PLAIN) -> None:
        self.rule = rule
        self.pairs, self.table = data.pairs[split], data.meaning.table
        self.size, self.multiple, self.square = size, multiple, square

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, Tensor]:
        image_path, label_path = self.pairs[i]
        image = read_displayed(image_path, self.rule)
        label = read_classes(label_path, self.table)
        if label.shape != image.shape[:2]:
            raise UsageError(f'{label_path} has {label.shape[1]}×{label.shape[0]} pixels, but its '
                             f'image is displayed at {image.shape[1]}×{image.shape[0]}')
        resized, small = at_size(image, label, self.size, self.multiple, self.square)
        return resized, torch.from_numpy(label), small


def read_displayed(path: Path, rule: PixelRule) -> np.ndarray:
    """As :func:`~densessl.pixels.decode.read_image`; UsageError if it cannot be read."""
    try:
        return read_image(path, rule)
    except UnreadableImage as error:
        raise UsageError(f'cannot read {error}') from error


def read_classes(path: Path, table: np.ndarray) -> np.ndarray:
    """(H, W) uint8 class indices of a label map, by the table of its meaning; UsageError if it
    cannot be used."""
    try:
        return table[read_ids(path)]
    except (UnusableMap, OSError) as error:
        raise UsageError(f'{path} {error}') from error


def at_size(image: np.ndarray, label: np.ndarray, size: int, multiple: int, square: bool
            ) -> tuple[Tensor, Tensor]:
    """An image (H, W, 3) and its label map (H, W) as (3, h, w) and, near a quarter of that size,
    (h/4, w/4): see :class:`PixelData`."""
    height, width = (size, size) if square else scaled_size(label.shape, size, multiple)
    interpolation = cv2.INTER_AREA if height < len(image) else cv2.INTER_LINEAR
    resized = cv2.resize(image, (width, height), interpolation=interpolation)
    small = cv2.resize(label, (width // NEAR_QUARTER, height // NEAR_QUARTER),
                       interpolation=cv2.INTER_NEAREST_EXACT)
    return torch.from_numpy(resized).permute(2, 0, 1), torch.from_numpy(small)
