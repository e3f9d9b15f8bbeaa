"""Images in classes, and the class labels that folders give."""
from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from densessl.errors import UsageError
from densessl.images.image_list import ImageList
from densessl.images.told_by_names import splits_of
from densessl.pixels.pixel_rule import PLAIN, PixelRule


@dataclass(frozen=True)
class ClassImages:
    """Images with classes.

    Attributes:
        keys: what tells the images apart and does not change: their names.
        labels: (N,) int64 classes. names: of the classes.
        read: position → (H, W, 3) uint8 RGB.
        rule: how files of more than 8 bits are read.
    """

    keys: Sequence[str]
    labels: np.ndarray
    names: Sequence[str]
    read: Callable[[int], np.ndarray]
    rule: PixelRule = PLAIN

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, positions: np.ndarray) -> ClassImages:
        """Those at ``positions``, in that order."""
        return ClassImages([self.keys[i] for i in positions], self.labels[positions], self.names,
                           partial(_read_selected, self.read, positions), self.rule)


def class_labels(images: ImageList) -> np.ndarray:
    """Label each image by its first folder, classes in sorted order.

    Returns:
        (N,) int64 labels 0..classes−1.

    Raises:
        UsageError: an image lies in no class folder, there is one class only, or the folders are
            those of splits.
    """
    if not images.in_folders:
        raise UsageError(f'{images.source} has no class folders: labels need images in folders, or '
                         f'shards that densessl make_shards wrote of them')
    folders = []
    inside: dict[str, set[str]] = {}
    for i in range(len(images)):
        folder, slash, rest = images.name(i).partition('/')
        if not slash:
            raise UsageError(f'{images.where(i)} is in no class folder: labels need one folder for '
                             f'each class, {images.root}/CLASS/image.jpg')
        folders.append(folder)
        inside.setdefault(folder, set()).add(rest.partition('/')[0] if '/' in rest else '')
    classes, labels = np.unique(folders, return_inverse=True)
    if len(classes) < 2:
        raise UsageError(f'{images.root} has one class folder ({classes[0]}); at least two are '
                         f'needed')
    if all(map(splits_of, inside)):
        raise UsageError(f'{images.root} holds folders of splits ({", ".join(inside)}), not of '
                         f'classes: name them train and val where both are wanted, else give one '
                         f'of them')
    alike, *others = inside.values()
    if len(alike) > 1 and '' not in alike and all(alike == other for other in others):
        print(f'densessl: the classes are the folders {", ".join(classes[:3])} … of '
              f'{images.root}, not those that all of them hold ({", ".join(sorted(alike)[:3])} …)',
              file=sys.stderr)
    return labels.astype(np.int64)


# a function of the module: loader workers that are spawned get it by name
def _read_selected(read: Callable[[int], np.ndarray], positions: np.ndarray, i: int) -> np.ndarray:
    return read(int(positions[i]))
