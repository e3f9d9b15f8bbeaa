"""Folders of small images with masks, and what any tar reader finds in shards of them."""
from __future__ import annotations

import os
import tarfile
from pathlib import Path

import cv2
import numpy as np

from densessl.images.find import find_images
from densessl.images.image_list import ImageList
from densessl.masks.generator import MaskGenerator, MaskStore, make_masks


class Halves(MaskGenerator):
    """The left and the right half; of several maps, cut further to the right."""

    name = 'halves'

    def __init__(self, *, maps: int = 1) -> None:
        self.maps = maps

    def __call__(self, image):
        cuts = [np.arange(image.shape[1]) >= image.shape[1] * (which + 1) // (self.maps + 1)
                for which in range(self.maps)]
        labels = np.array([np.tile(cut, (image.shape[0], 1)) for cut in cuts]).astype(np.uint8)
        return labels[0] if self.maps == 1 else labels


def draw(folder: Path, names: list[str], seed: int = 0) -> ImageList:
    """Write noise of different sizes under ``names``; those without a known extension as PNG."""
    rng = np.random.default_rng(seed)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (*rng.integers(30, 60, 2), 3), np.uint8)
        kind = '.jpg' if name.lower().endswith('jpg') else '.png'
        path.write_bytes(cv2.imencode(kind, pixels)[1].tobytes())
    return find_images(folder)


def numbered(count: int) -> list[str]:
    """Names in three class folders."""
    return [f'{"abc"[i % 3]}/{i:03d}.jpg' for i in range(count)]


def masked(folder: Path, images: ImageList, maps: int = 1) -> MaskStore:
    """A mask store of ``images``."""
    make_masks(images, folder, Halves(maps=maps), workers=1, progress=False)
    return MaskStore(folder)


def names_of(images: ImageList) -> list[str]:
    """All names in order."""
    return [images.name(i) for i in range(len(images))]


def grouped(path: Path) -> list[tuple[str, dict[str, bytes]]]:
    """The samples of a tar file by the rule in WebDataset's documentation: what is before the
    first dot of the base name is the key, and neighbors with one key are one sample."""
    samples: list[tuple[str, dict[str, bytes]]] = []
    with tarfile.open(path) as tar:
        for member in tar:
            folder, base = os.path.split(member.name)
            stem, _, extension = base.partition('.')
            key = os.path.join(folder, stem)
            if not samples or samples[-1][0] != key:
                samples.append((key, {}))
            assert extension not in samples[-1][1], 'twice in one sample'
            samples[-1][1][extension] = tar.extractfile(member).read()
    return samples
