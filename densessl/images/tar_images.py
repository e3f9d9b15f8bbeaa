"""Images in tar shards: a list of images whose place is a stretch of a shard."""
from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from densessl.images.image_list import ImageList
from densessl.images.tar_files import TarFiles
from densessl.pixels.decode import UnreadableImage, data_size


@dataclass(frozen=True, eq=False)
class TarImages(ImageList):
    """Behaves like the list of the files from which the shards were written, with the same digest;
    its methods are those of :class:`ImageList`.

    Attributes:
        shards: the tar files.
        entries: (N, 3 + 2·maps) int64: the shard, offset and size of the image, and the offset and
            size of each label map, size 0 for one that is missing.
        mask_info: how the label maps were made; None if there are none.
    """

    shards: TarFiles = field(repr=False)
    entries: np.ndarray = field(repr=False)
    mask_info: dict[str, Any] | None = field(repr=False)

    def path(self, i: int) -> Path:
        """The shard in which image ``i`` is."""
        return self.shards.path(self.entries[i, 0])

    def where(self, i: int) -> str:
        return f'{self.path(i)}: {self.name(i)}'

    def stat(self, i: int) -> tuple[int, int]:
        """As of a file; written when the shard was."""
        if not self.entries[i, 2]:
            raise UnreadableImage(self.where(i), 'the file is empty')
        try:
            return int(self.entries[i, 2]), os.stat(self.path(i)).st_mtime_ns
        except OSError as error:
            raise UnreadableImage(self.where(i), str(error.strerror)) from error

    def data(self, i: int) -> bytes:
        try:
            data = self.shards.read(*map(int, self.entries[i, :3]))
        except OSError as error:
            raise UnreadableImage(self.where(i), str(error.strerror)) from error
        if not data:
            raise UnreadableImage(self.where(i), 'the file is empty')
        return data

    def size(self, i: int) -> tuple[int, int]:
        return data_size(self.where(i), self.data(i))

    def select(self, keep: Iterable[int]) -> TarImages:
        keep = np.fromiter(keep, np.int64)
        return replace(super().select(keep), entries=self.entries[keep])

    def buffers(self) -> tuple[np.ndarray, ...]:
        """The list in arrays: the names in two, and the entries."""
        return *super().buffers(), self.entries

    def over(self, *buffers: np.ndarray) -> TarImages:
        *names, entries = buffers
        return replace(super().over(*names), entries=entries)
