"""Label maps in tar shards: as :class:`~densessl.masks.store.Masks` says."""
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from densessl.errors import UsageError
from densessl.images.find import find_images
from densessl.images.image_list import ImageList, UnreadableImage
from densessl.images.tar_files import TarFiles
from densessl.images.tar_images import TarImages
from densessl.images.tar_index import find_tars, is_written
from densessl.masks.metadata import INFO
from densessl.masks.store import Masks


class TarMasks(Masks):
    """The label maps of a list of images.

    Args:
        images: the list.
        root: the folder of the shards, or the shard.
        info: as of :class:`~densessl.masks.store.MaskStore`; empty of shards that others made.
        shards: the tar files.
        entries: (N, 1 + 2·maps) int64: the shard, then offset and size of each label map, size 0
            for one that is missing.
    """

    complete = True
    remedy: ClassVar[str] = 'write the shards again, with whole masks'
    advice: ClassVar[str] = ''

    def __init__(self, images: ImageList, root: Path, info: dict[str, Any], shards: TarFiles,
                 entries: np.ndarray) -> None:
        self.images, self.root, self.info = images, root, info
        self.shards, self.entries = shards, entries
        self.maps = (entries.shape[1] - 1) // 2

    def has(self, i: int) -> bool:
        return bool((self.entries[i, 2::2] > 0).all())

    def where(self, i: int, which: int = 0) -> str:
        of = '' if self.maps == 1 else f' {which}'
        return f'{self.shards.path(self.entries[i, 0])}: mask{of} of {self.images.name(i)}'

    def data(self, i: int, which: int = 0) -> bytes:
        shard, offset, size = (int(self.entries[i, k]) for k in (0, 1 + 2 * which, 2 + 2 * which))
        try:
            if size:
                return self.shards.read(shard, offset, size)
        except OSError as error:
            raise UnreadableImage(self.where(i, which), str(error.strerror)) from error
        raise UnreadableImage(self.where(i, which), 'there is none')

    def stat(self, i: int, which: int = 0) -> tuple[int, int]:
        size = int(self.entries[i, 2 + 2 * which])
        try:
            if size:
                return size, os.stat(self.shards.path(self.entries[i, 0])).st_mtime_ns
        except OSError as error:
            raise UnreadableImage(self.where(i, which), str(error.strerror)) from error
        raise UnreadableImage(self.where(i, which), 'there is none')

    def having(self) -> Sequence[int]:
        return np.flatnonzero((self.entries[:, 2::2] > 0).all(axis=1))

    def buffers(self) -> tuple[np.ndarray, ...]:
        return (self.entries,)

    def over(self, images: ImageList, *buffers: np.ndarray) -> TarMasks:
        return TarMasks(images, self.root, self.info, self.shards, *buffers)


def masks_beside(images: ImageList) -> TarMasks | None:
    """The label maps of ``images`` that are in their own tar shards, if there are any."""
    if not isinstance(images, TarImages) or images.mask_info is None:
        return None
    places = np.delete(images.entries, (1, 2), axis=1)
    return TarMasks(images, images.source, images.mask_info, images.shards, places)


def masks_in_shards(images: ImageList, folder: str | Path | None) -> TarMasks | None:
    """The label maps of ``images`` that are in tar shards: in those of ``folder`` or, if it is
    None, in those of the images; None if ``folder`` is a mask store or the images have none.

    Raises:
        UsageError: there are no label maps in the shards of ``folder``.
    """
    if folder is None:
        return masks_beside(images)
    root = Path(os.path.abspath(os.path.expanduser(folder)))
    if (root / INFO).exists() or not (is_written(root) or root.suffix.lower() == '.tar'
                                      or (root.is_dir() and find_tars(root))):
        return None
    found = images if images.source == root else find_images(root)
    masks = masks_beside(found)
    if masks is None:
        raise UsageError(f'the shards in {root} hold no masks: write them with "densessl '
                         f'make_shards IMAGES OUT --masks STORE", or name a mask store')
    if found.digest() == images.digest():
        return masks.over(images, masks.entries)
    # other images, or fewer: by their names
    positions = {found.name(i): i for i in range(len(found))}
    none = np.zeros((1, masks.entries.shape[1]), np.int64)
    entries = np.concatenate([masks.entries, none])
    return masks.over(images, entries[[positions.get(images.name(i), -1)
                                       for i in range(len(images))]])
