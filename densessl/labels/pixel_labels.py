"""Images with label maps to probe on: any folder of them, or the layouts of two public data sets.

The layout is recognized by its folders:

    DIR/images/{train,val}, DIR/labels/{train,val}                      any images, PNG label maps
    DIR/{JPEGImages,SegmentationClass,ImageSets/Segmentation}           PASCAL VOC (also of a
                                                                        VOCdevkit, its VOC2012)
    DIR/leftImg8bit/{train,val}, DIR/gtFine/{train,val}                 Cityscapes, by labelIds
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from densessl.errors import UsageError
from densessl.labels.data_report import DataReport, Finding
from densessl.labels.data_root import SPLITS, listed_images, require
from densessl.labels.label_folder import (
    LAYOUT,
    LabelOptions,
    Pair,
    read_label_folder,
    stray_labels,
    visible_files,
)
from densessl.labels.label_ids import IGNORED, UNKNOWN, MapMeaning, UnusableMap, read_ids
from densessl.pixels.decode import UnreadableImage, read_image
from densessl.pixels.pixel_rule import PLAIN, PixelRule

VOC = ('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation')
VOC_NAMES = ('background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog '
             'horse motorbike person pottedplant sheep sofa train tvmonitor').split()
CITYSCAPES = ('leftImg8bit', 'gtFine')
# labelId → name of the 19 classes that are evaluated (mcordts/cityscapesScripts, labels.py)
CITYSCAPES_CLASSES = {
    7: 'road', 8: 'sidewalk', 11: 'building', 12: 'wall', 13: 'fence', 17: 'pole',
    19: 'traffic light', 20: 'traffic sign', 21: 'vegetation', 22: 'terrain', 23: 'sky',
    24: 'person', 25: 'rider', 26: 'car', 27: 'truck', 28: 'bus', 31: 'train', 32: 'motorcycle',
    33: 'bicycle'}
OPTIONS = LabelOptions('--ignore ', '--map 255=1')
NEAR_QUARTER = 4    # the head is trained on labels at this stride: finer than any backbone's map


@dataclass(frozen=True)
class PixelLabels:
    """Images with label maps.

    Attributes:
        root: their folder. pairs: images and label maps by split.
        meaning: of the ids in the label maps. strays: label maps without an image, by split.
    """

    root: Path
    pairs: dict[str, list[Pair]]
    meaning: MapMeaning
    strays: dict[str, list[str]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return list(self.meaning.names)

    def reports(self) -> list[DataReport]:
        """What there is in each split, for the pass that opens it."""
        return [DataReport(
            split, f'{self.root} ({split})', len(found), len(found), maps=self.meaning,
            samples=tuple((str(image), str(label)) for image, label in found),
            findings=tuple(Finding('have no image', tuple(lost), unit='label maps')
                           for lost in [self.strays.get(split)] if lost))
            for split, found in self.pairs.items()]


def find_pixel_labels(root: str | Path, ignore: Any = 255, moved: Mapping[int, int] | None = None
                      ) -> PixelLabels:
    """Find labelled images below ``root``, in whichever of the layouts it has. Files are not
    opened, except for the ids in a folder without ``classes.json``.

    Args:
        ignore: id, or list of ids, of pixels without label, in a folder of label maps.
        moved: id in those files → id that is meant.

    Raises:
        UsageError: no known layout, or a part of it is missing.
    """
    base = Path(root)
    if not base.is_dir():
        raise UsageError(f'no folder {base}; --data expects {LAYOUT}, or the layout of PASCAL VOC '
                         f'or Cityscapes')
    if all((base / part).is_dir() for part in CITYSCAPES):
        return _cityscapes(base)
    for folder in _voc_folders(base):
        if all((folder / part).is_dir() for part in VOC):
            return _voc(folder)
    if not (base / 'images').is_dir():
        raise UsageError(f'{base} has none of the layouts that are known: {LAYOUT}; or '
                         f'{", ".join(VOC)} (PASCAL VOC); or {", ".join(CITYSCAPES)} (Cityscapes)')
    found = read_label_folder(base, ignore, OPTIONS, moved)
    return PixelLabels(base, found.pairs, found.meaning(OPTIONS), {
        split: stray_labels(base / 'labels' / split, (label for _, label in pairs))
        for split, pairs in found.pairs.items()})


def layout_of_pixel_labels(root: Path) -> str | None:
    """What label maps below ``root`` are laid out as, by two telling folders; None if by none."""
    layouts = {'images and label maps': (('images', 'labels'), [root]),
               'PASCAL VOC': (VOC[:2], _voc_folders(root)), 'Cityscapes': (CITYSCAPES, [root])}
    return next((f'{parts[0]}/ and {parts[1]}/ of {name}'
                 for name, (parts, folders) in layouts.items() for folder in folders
                 if all((folder / part).is_dir() for part in parts)), None)


def _voc_folders(root: Path) -> list[Path]:
    """Where VOC's folders may be, below what users name."""
    return [root, root / 'VOC2012', root / 'VOCdevkit' / 'VOC2012']


def _voc(root: Path) -> PixelLabels:
    pairs = {}
    for split in SPLITS:
        names = root / VOC[2] / f'{split}.txt'
        require([str(names.relative_to(root))], root, 'PASCAL VOC has that list of images')
        pairs[split] = [(root / VOC[0] / f'{name}.jpg', root / VOC[1] / f'{name}.png')
                        for name in listed_images(names, root / VOC[0])]
    return PixelLabels(root, _some(pairs), MapMeaning.of(VOC_NAMES, {IGNORED: IGNORED}))


def _cityscapes(root: Path) -> PixelLabels:
    pairs, strays = {}, {}
    for split in SPLITS:
        images, labels = (root / folder / split for folder in CITYSCAPES)
        pairs[split] = [(path, labels / path.relative_to(images).with_name(path.name.replace(
            '_leftImg8bit', '_gtFine_labelIds')))
            for path in visible_files(images, {'.png'}) if '_leftImg8bit' in path.name]
        used = {label for _, label in pairs[split]}
        strays[split] = [str(path) for path in visible_files(labels, {'.png'})
                         if path.name.endswith('_gtFine_labelIds.png') and path not in used]
    ids = dict.fromkeys([*range(35), IGNORED], IGNORED)     # the others evaluate to no label
    ids.update({label: index for index, label in enumerate(CITYSCAPES_CLASSES)})
    lookup = [ids.get(value, UNKNOWN) for value in range(256)]
    return PixelLabels(root, _some(pairs), MapMeaning(
        tuple(CITYSCAPES_CLASSES.values()), tuple(lookup)), strays)


def _some(pairs: dict[str, list[Pair]]) -> dict[str, list[Pair]]:
    for split, found in pairs.items():
        if not found:
            raise UsageError(f'there are no images for {split}')
    return pairs


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
        image, label = self._image(image_path), self._label(label_path)
        if label.shape != image.shape[:2]:
            raise UsageError(f'{label_path} has {label.shape[1]}×{label.shape[0]} pixels, but its '
                             f'image is displayed at {image.shape[1]}×{image.shape[0]}')
        width, height = self._target(*image.shape[:2])
        interpolation = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
        resized = cv2.resize(image, (width, height), interpolation=interpolation)
        small = cv2.resize(label, (width // NEAR_QUARTER, height // NEAR_QUARTER),
                           interpolation=cv2.INTER_NEAREST_EXACT)
        return (torch.from_numpy(resized).permute(2, 0, 1), torch.from_numpy(label),
                torch.from_numpy(small))

    def _target(self, height: int, width: int) -> tuple[int, int]:
        if self.square:
            return self.size, self.size
        scale = self.size / min(height, width)
        return tuple(max(1, round(side * scale / self.multiple)) * self.multiple
                     for side in (width, height))

    def _label(self, path: Path) -> np.ndarray:
        try:
            return self.table[read_ids(path)]
        except (UnusableMap, OSError) as error:
            raise UsageError(f'{path} {error}') from error

    def _image(self, path: Path) -> np.ndarray:
        try:
            return read_image(path, self.rule)
        except UnreadableImage as error:
            raise UsageError(f'cannot read {error}') from error
