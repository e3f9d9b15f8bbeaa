"""Images in classes: any folder of class folders, or a data set that a plugin's library reads."""
from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from densessl.errors import UsageError, did_you_mean
from densessl.images.find import find_images
from densessl.images.image_list import UnreadableImage
from densessl.images.range_survey import with_rule
from densessl.images.told_by_names import TEST, TRAIN, VAL
from densessl.labels.class_labels import ClassImages, class_labels
from densessl.labels.pixel_labels import layout_of_pixel_labels
from densessl.pixels.pixel_rule import PLAIN, PixelRule
from densessl.pixels.scaled_size import LONGEST
from densessl.views.view import AugmentedView

HELD_OUT = 0.2                      # of each class, where a data set has no split of its own
MARGIN = 256 / 224                  # short side of the resized image over the central crop's


def find_class_images(root: str | Path, dataset: str | None = None, rule: PixelRule = PLAIN
                      ) -> tuple[ClassImages, ClassImages]:
    """The training and the validation images below ``root``.

    Args:
        dataset: ``'TARGET.NAME'``: a data set on disk in its own format, read by that target's
            library. None: ``root/{train,val}/CLASS/…`` (or by other words for these, such as
            ``Training`` and ``test``), or ``root/CLASS/…``, of which
            :func:`held_out` images become the validation images.
        rule: how they are to be read; a range that has to be measured is, by the training images.
            A library reads its own sets in its own way.

    Raises:
        UsageError: unknown data set, ``root`` does not hold it, or holds label maps.
    """
    if dataset is not None:
        return _of_target(Path(root), dataset)
    base = Path(root)
    if not base.is_dir():
        raise UsageError(f'no folder {base}; --data expects {{train,val}}/CLASS/image.jpg or '
                         f'CLASS/image.jpg below a folder')
    dense = layout_of_pixel_labels(base)
    if dense:
        raise UsageError(f'{base} has no folders of classes: it holds {dense}; measure it with '
                         f'--kind dense')
    folders = {path.name.lower(): path for path in sorted(base.iterdir()) if path.is_dir()}
    first, second = (next((folders[name] for name in names if name in folders), None)
                     for names in (TRAIN, (VAL[0], TEST[0], *VAL, *TEST)))
    if first and second:
        train = _folder(first, rule)
        val = _folder(second, train.rule)
        if list(train.names) != list(val.names):
            odd = sorted(set(train.names) ^ set(val.names))
            raise UsageError(f'{base}: {first.name} and {second.name} have different class '
                             f'folders, such as {odd[0]!r}')
        return train, val
    return split_off(_folder(base, rule))


def split_off(images: ClassImages) -> tuple[ClassImages, ClassImages]:
    """Divide into training and validation images by :func:`held_out`."""
    apart = held_out(images.keys, images.labels)
    return images.select(np.flatnonzero(~apart)), images.select(np.flatnonzero(apart))


def held_out(keys: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """(N,) bool: :data:`HELD_OUT` of each class (at least one image, never all), those whose keys
    have the lowest SHA-256. A function of the names alone: the same on every machine.

    Raises:
        UsageError: a class has one image only.
    """
    chosen = np.zeros(len(labels), bool)
    rank = np.array([hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()
                     for key in keys])
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise UsageError(f'a class has one image only ({keys[members[0]]}): two are needed to '
                             f'learn from one and hold one out')
        count = min(max(1, round(HELD_OUT * len(members))), len(members) - 1)
        chosen[members[np.argsort(rank[members])[:count]]] = True
    return chosen


def _folder(root: Path, rule: PixelRule) -> ClassImages:
    images = with_rule(find_images(root), rule)
    keys = [images.name(i) for i in range(len(images))]
    names = sorted({key.partition('/')[0] for key in keys})
    return ClassImages(keys, class_labels(images), names, images.read, images.rule)


def _of_target(root: Path, dataset: str) -> tuple[ClassImages, ClassImages]:
    from densessl.backbones import target_names
    from densessl.registry import TRANSFER_TARGETS
    known = [f'{name}.{one}' for name in target_names()
             for one in TRANSFER_TARGETS.get(name).image_sets]
    if dataset not in known:
        raise UsageError(f'unknown data set {dataset!r}{did_you_mean(dataset, known)}; known: '
                         f'{", ".join(known)}; for any other, give a folder of class folders '
                         f'without --dataset')
    target, _, name = dataset.partition('.')
    train, val = TRANSFER_TARGETS.get(target)().read_image_set(name, root)
    return split_off(train) if val is None else (train, val)


class CentralCrops(Dataset):
    """Items are (3, size, size) uint8 RGB: the image resized to 8/7 of ``size`` on its short side,
    and its center."""

    def __init__(self, images: ClassImages, size: int) -> None:
        self.images, self.size = images, size

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return _as_tensor(central_crop(_read(self.images, i), self.size))


class RandomCrops(Dataset):
    """Items at (epoch, i) are a random resized crop (3, size, size) uint8 RGB, flipped half of
    the time, and the class; drawn from (seed, epoch, i) whatever worker reads it."""

    def __init__(self, images: ClassImages, size: int, seed: int) -> None:
        self.images, self.seed = images, seed
        self.view = AugmentedView(size=size)

    def __getitem__(self, position: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, i = position
        image = _read(self.images, i)
        rng = np.random.default_rng((self.seed, epoch, i))
        box, flip, _ = self.view.draw(rng, *image.shape[:2])
        return _as_tensor(self.view.cut(image, box, flip)), int(self.images.labels[i])


def epoch_order(images: int, seed: int, epoch: int) -> list[tuple[int, int]]:
    """(epoch, i) of every image once, in an order drawn from (seed, epoch): a loader's sampler."""
    order = np.random.default_rng((seed, epoch)).permutation(images)
    return [(epoch, int(i)) for i in order]


def central_crop(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) → (size, size, 3), of the middle :data:`LONGEST` short sides at most."""
    top, left = (max(0, side - LONGEST * min(image.shape[:2])) // 2 for side in image.shape[:2])
    image = image[top:len(image) - top, left:image.shape[1] - left]
    height, width = image.shape[:2]
    scale = round(MARGIN * size) / min(height, width)
    wide, high = max(size, round(width * scale)), max(size, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = cv2.resize(image, (wide, high), interpolation=method)
    top, left = (high - size) // 2, (wide - size) // 2
    return image[top:top + size, left:left + size]


def _read(images: ClassImages, i: int) -> np.ndarray:
    try:
        return images.read(i)
    except UnreadableImage as error:
        raise UsageError(f'{error}; mend or remove it') from error


def _as_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
