"""The mask store: a folder of PNG label maps that mirrors the image tree, and what is in it.

::

    masks.json                 generator, parameters, version; images, masks, skipped, complete
    skipped.txt                the images without a mask, each with the reason
    train/a.png                the label map of train/a.jpg: 8 bits, or 16 above 256 regions
    .shards/0-of-1.json        written by each shard of the build when it is done

A generator that makes several label maps of an image has a folder for each: ``0/train/a.png``,
``1/train/a.png``, …

Masks are only ever touched by path, so a store of a million costs no more to open than one of ten.
"""
from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from densessl.images.image_list import ImageList, UnreadableImage, read_data
from densessl.masks.metadata import SKIPPED, gather_marks, read_info, read_skipped, totals
from densessl.pixels import label_png


class MaskStore:
    """A folder of label maps. Opening it reads ``masks.json`` and, of an unfinished store, the
    marks of its shards.

    Attributes:
        root: the folder.
        info: what ``masks.json`` says: ``generator``, ``parameters``, ``version``, ``densessl``,
            ``images`` and ``digest`` of the list of images, ``maps`` if an image has several; when
            ``complete``, also how many images have their ``masks`` and how many were ``skipped``.
        maps: how many label maps an image has.
        complete: whether every image of the list it was made for has a mask or was skipped.

    Raises:
        UsageError: ``root`` is not a mask store.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.info = read_info(self.root)
        if not self.info.get('complete'):
            self.info |= totals(gather_marks(self.root, self.info.get('digest')))
        self.maps: int = self.info.get('maps', 1)
        self.complete = bool(self.info.get('complete'))

    def path(self, name: str, which: int = 0) -> Path:
        """Where label map ``which`` of image ``name`` is: ``a/b.jpg`` → ``root/a/b.png``, or, of
        several, ``root/0/a/b.png``."""
        folder = self.root if self.maps == 1 else self.root / str(which)
        return folder / mask_name(name)

    def has(self, name: str) -> bool:
        """Whether image ``name`` has its mask, or all of them. A file that is there is whole: it
        was renamed into its place (an empty one is what a crash of the machine may leave)."""
        try:
            return all(os.stat(self.path(name, which)).st_size > 0 for which in range(self.maps))
        except OSError:
            return False

    def read(self, name: str, which: int = 0) -> np.ndarray:
        """Label map ``which`` (0 ≤ which < ``maps``) of image ``name``: (H, W) uint8 or uint16.

        Raises:
            UnreadableImage: it is missing or damaged.
        """
        path = self.path(name, which)
        return label_png.decode(path, read_data(path))

    def skipped(self) -> dict[str, str]:
        """The images without a mask, by name, and why; from one file."""
        return read_skipped(self.root)

    def of(self, images: ImageList) -> StoreMasks:
        """The masks of ``images``, by position in that list."""
        return StoreMasks(self, images)


class Masks(Protocol):
    """The label maps of a list of images, by position in it: ``masks = store.of(images)``, then
    ``masks.read(i)``. Those in tar shards are the same (:mod:`densessl.masks.tar_masks`).

    Attributes:
        images: the list.
        root, info, complete, maps: as of :class:`MaskStore`.
        remedy: what to do about a mask that is wrong.
        advice: what to do about images without a mask.
    """

    images: ImageList
    root: Path
    info: dict[str, Any]
    complete: bool
    maps: int
    remedy: str
    advice: str

    def has(self, i: int) -> bool:
        """Whether image ``i`` has its mask, or all of them."""

    def where(self, i: int, which: int = 0) -> str:
        """What messages call label map ``which`` (0 ≤ which < ``maps``) of image ``i``."""

    def read(self, i: int, which: int = 0) -> np.ndarray:
        """That label map: (H, W) uint8 or uint16; UnreadableImage if it is missing or damaged."""
        return label_png.decode(self.where(i, which), self.data(i, which))

    def data(self, i: int, which: int = 0) -> bytes:
        """Its bytes as stored; UnreadableImage if it is missing or empty."""

    def stat(self, i: int, which: int = 0) -> tuple[int, int]:
        """How many bytes they are, and when they were written (ns); raises as :meth:`data`."""

    def skipped(self) -> dict[str, str]:
        """The images without a mask, by name, and why; none where that is not kept."""
        return {}

    def having(self) -> Sequence[int]:
        """The positions of the images that have a mask."""

    def select(self, keep: Sequence[int]) -> Masks:
        """The masks of the images at the positions ``keep``, of which alone a list is made."""
        rows = (array[np.asarray(keep, int)] for array in self.buffers())
        return self.over(self.images.select(keep), *rows)

    def buffers(self) -> tuple[np.ndarray, ...]:
        """What is as long as the list of images, apart from that, for :meth:`over` to take."""
        return ()

    def over(self, images: ImageList, *buffers: np.ndarray) -> Masks:
        """The same over other copies of the list and of its :meth:`buffers`."""


class StoreMasks(Masks):
    """The masks of a list of images in a :class:`MaskStore`."""

    remedy: ClassVar[str] = 'delete the mask and make it again'
    advice: ClassVar[str] = f' ({SKIPPED} there says why, or "densessl make_masks" adds them)'

    def __init__(self, store: MaskStore, images: ImageList) -> None:
        self.store, self.images, self.skipped = store, images, store.skipped
        self.root, self.info = store.root, store.info
        self.maps, self.complete = store.maps, store.complete

    def has(self, i: int) -> bool:
        return self.store.has(self.images.name(i))

    def where(self, i: int, which: int = 0) -> str:
        return str(self.store.path(self.images.name(i), which))

    def data(self, i: int, which: int = 0) -> bytes:
        return read_data(self.store.path(self.images.name(i), which))

    def stat(self, i: int, which: int = 0) -> tuple[int, int]:
        path = self.store.path(self.images.name(i), which)
        try:
            state = os.stat(path)
        except OSError as error:
            raise UnreadableImage(path, str(error.strerror)) from error
        return state.st_size, state.st_mtime_ns

    def having(self) -> Sequence[int]:
        """Without a look at any file if the store was made for these images."""
        positions = range(len(self.images))
        if self.info.get('digest') != self.images.digest():
            return [i for i in positions if self.has(i)]
        skipped = self.skipped()
        return [i for i in positions if self.images.name(i) not in skipped] if skipped \
            else positions

    def over(self, images: ImageList, *buffers: np.ndarray) -> StoreMasks:
        return StoreMasks(self.store, images)


def mask_name(name: str) -> str:
    """The label map's name for the image ``name``, relative to the store."""
    return posixpath.splitext(name)[0] + '.png'
