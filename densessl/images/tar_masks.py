"""Label maps in tar shards, with the interface by position of a mask store."""
from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from densessl.errors import UsageError
from densessl.images.tar_files import TarFiles
from densessl.pixels import label_png
from densessl.pixels.decode import UnreadableImage

if TYPE_CHECKING:
    from densessl.images.image_list import ImageList


class TarMasks:
    """The label maps of the images of a list, by position in it.

    Args:
        root: the folder of the shards, or the shard.
        info: as of :class:`~densessl.masks.store.MaskStore`; empty of shards that others made.
        shards: the tar files.
        entries: (N, 1 + 2·maps) int64: the shard, then offset and size of each label map, size 0
            for one that is missing.
    """

    complete = True
    remedy: ClassVar[str] = 'write the shards again, with whole masks'
    advice: ClassVar[str] = ''

    def __init__(self, root: Path, info: dict[str, Any], shards: TarFiles, entries: np.ndarray
                 ) -> None:
        self.root, self.info, self.shards, self.entries = root, info, shards, entries

    @property
    def maps(self) -> int:
        """How many label maps an image has."""
        return (self.entries.shape[1] - 1) // 2

    def skipped(self) -> dict[str, str]:
        """Images without a mask, and why: what the store skipped is not in the shards."""
        return {}

    def has_for(self, images: ImageList, i: int) -> bool:
        """Whether image ``i`` has its mask, or all of them."""
        return bool((self.entries[i, 2::2] > 0).all())

    def read_for(self, images: ImageList, i: int, which: int = 0) -> np.ndarray:
        """Label map ``which`` (0 ≤ which < ``maps``) of image ``i``: (H, W) uint8 or uint16.

        Raises:
            UnreadableImage: it is missing or damaged.
        """
        data = self.data_for(images, i, which)
        return label_png.decode(self.where_for(images, i, which), data)

    def where_for(self, images: ImageList, i: int, which: int = 0) -> str:
        """What messages call that label map."""
        of = '' if self.maps == 1 else f' {which}'
        return f'{self.shards.path(self.entries[i, 0])}: mask{of} of {images.name(i)}'

    def data_for(self, images: ImageList, i: int, which: int = 0) -> bytes:
        """Its bytes as stored; UnreadableImage if it is missing or empty."""
        shard, offset, size = (int(self.entries[i, k]) for k in (0, 1 + 2 * which, 2 + 2 * which))
        try:
            if size:
                return self.shards.read(shard, offset, size)
        except OSError as error:
            raise UnreadableImage(self.where_for(images, i, which), str(error.strerror)) from error
        raise UnreadableImage(self.where_for(images, i, which), 'there is none')

    def stat_for(self, images: ImageList, i: int, which: int = 0) -> tuple[int, int]:
        """How many bytes they are, and when the shard was written (ns)."""
        state = os.stat(self.shards.path(self.entries[i, 0]))
        return int(self.entries[i, 2 + 2 * which]), state.st_mtime_ns

    def having(self, images: ImageList) -> Sequence[int]:
        """The positions of the images that have a mask."""
        return np.flatnonzero((self.entries[:, 2::2] > 0).all(axis=1))

    def select(self, keep: Sequence[int]) -> TarMasks:
        """The masks of the images at the positions ``keep``."""
        return TarMasks(self.root, self.info, self.shards, self.entries[np.asarray(keep, int)])

    def buffers(self) -> tuple[np.ndarray, ...]:
        """What is as long as the list of images, for :meth:`over` to take."""
        return (self.entries,)

    def over(self, *buffers: np.ndarray) -> TarMasks:
        """The same over other copies of its :meth:`buffers`."""
        return TarMasks(self.root, self.info, self.shards, *buffers)


def masks_in_shards(images: ImageList, folder: str | Path | None) -> TarMasks | None:
    """The label maps of ``images`` that are in tar shards: in those of ``folder`` or, if it is
    None, in those of the images; None if ``folder`` is a mask store or the images have none.

    Raises:
        UsageError: there are no label maps in the shards of ``folder``.
    """
    from densessl.images.find import find_images
    from densessl.images.tar_index import find_tars, is_written
    from densessl.masks.metadata import INFO
    if folder is None:
        return images.masks()
    root = Path(os.path.abspath(os.path.expanduser(folder)))
    if (root / INFO).exists() or not (is_written(root) or root.suffix.lower() == '.tar'
                                      or (root.is_dir() and find_tars(root))):
        return None
    found = images if images.source == root else find_images(root)
    masks = found.masks()
    if masks is None:
        raise UsageError(f'the shards in {root} hold no masks: write them with "densessl '
                         f'make_shards IMAGES OUT --masks STORE", or name a mask store')
    if found.digest() == images.digest():
        return masks
    # other images, or fewer: by their names
    positions = {found.name(i): i for i in range(len(found))}
    none = np.zeros((1, masks.entries.shape[1]), np.int64)
    entries = np.concatenate([masks.entries, none])
    return masks.over(entries[[positions.get(images.name(i), -1) for i in range(len(images))]])
