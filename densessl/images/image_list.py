"""Unlabelled images: any folder, list of paths, JSON of images or folder of tar shards is a data
set.

:meth:`ImageList.read` is the only reader: masks and training see the same pixels the same way up.
"""
from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from densessl.errors import UsageError
from densessl.images.image_names import check_names
from densessl.pixels.decode import StoredImage, UnreadableImage, image_size, open_data, read_data
from densessl.pixels.pixel_rule import PLAIN, PixelRule

EXTENSIONS = frozenset('.jpg .jpeg .jpe .jfif .png .apng .bmp .dib .gif .tif .tiff .webp .avif '
                       '.jp2 .ppm .pgm .pbm .pnm'.split())


@dataclass(frozen=True, eq=False)
class ImageList:
    """Images by name. A million names are one buffer, so loader workers share or copy it cheaply.

    Attributes:
        root: the folder that names are relative to.
        source: what was given: a folder, a list of paths, a JSON file or a tar file.
        in_folders: whether the folders in the names are those of files.
        rule: how stored values become pixels; :mod:`densessl.images.range_survey` sets it.
    """

    root: Path
    source: Path
    # the names, one after the other, as the OS spells them: bytes, or (n,) uint8 in shared memory
    _names: bytes | np.ndarray = field(repr=False)
    _ends: np.ndarray = field(repr=False)    # (N + 1,) int64; name i is _names[_ends[i]:_ends[i+1]]
    in_folders: bool = field(default=True, repr=False, kw_only=True)
    rule: PixelRule = field(default=PLAIN, kw_only=True)

    @classmethod
    def of(cls, root: Path, source: Path, names: list[bytes]) -> ImageList:
        """The list of ``names`` (posix paths relative to ``root``, as ``os.fsencode`` gives).

        Raises:
            UsageError: a name leads out of ``root`` (:mod:`densessl.images.image_names`).
        """
        ends = np.zeros(len(names) + 1, np.int64)
        np.cumsum([len(name) for name in names], out=ends[1:])
        joined = b''.join(names)
        check_names(joined, ends, source)
        return cls(root, source, joined, ends)

    @classmethod
    def of_paths(cls, paths: Iterable[str]) -> ImageList:
        """The list of files that are anywhere: absolute paths."""
        return cls.of(Path('/'), Path('/'), [os.fsencode(path.lstrip('/')) for path in paths])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def name(self, i: int) -> str:
        """Image ``i``'s posix path relative to ``root``; IndexError past the end."""
        return os.fsdecode(self._raw(i))

    def path(self, i: int) -> Path:
        """The file in which image ``i`` is."""
        return self.root / self.name(i)

    def where(self, i: int) -> str:
        """What messages call image ``i``."""
        return str(self.path(i))

    def stat(self, i: int) -> tuple[int, int]:
        """How many bytes image ``i`` has, and when they were written (ns).

        Raises:
            UnreadableImage: it is missing or empty.
        """
        try:
            state = os.stat(os.fsencode(self.root) + b'/' + self._raw(i))   # a Path takes longer
        except OSError:
            state = None
        if not (state and state.st_size):
            read_data(self.path(i))       # says why
            raise UnreadableImage(self.where(i), 'the file has just changed')
        return state.st_size, state.st_mtime_ns

    def data(self, i: int) -> bytes:
        """The bytes of image ``i`` as stored; raises as :meth:`stat`."""
        return read_data(self.path(i))

    def open(self, i: int) -> StoredImage:
        """Image ``i``, of which no more than the header is decoded; raises as
        :func:`~densessl.pixels.decode.open_image`."""
        return open_data(self.where(i), self.data(i), self.rule)

    def read(self, i: int) -> np.ndarray:
        """Image ``i``, (H, W, 3) uint8 RGB; raises as
        :func:`~densessl.pixels.decode.read_image`."""
        return self.open(i).pixels()

    def size(self, i: int) -> tuple[int, int]:
        """(H, W) of image ``i``; raises as :func:`~densessl.pixels.decode.image_size`."""
        return image_size(self.path(i))

    def select(self, keep: Iterable[int]) -> ImageList:
        """The images at the positions ``keep``, in that order."""
        chosen = ImageList.of(self.root, self.source, [self._raw(i) for i in keep])
        return replace(self, _names=chosen._names, _ends=chosen._ends)

    def digest(self) -> str:
        """A hash of the names in their order: 16 hexadecimal digits."""
        digest = hashlib.sha256(self._names)
        digest.update(self._ends)
        return digest.hexdigest()[:16]

    def buffers(self) -> tuple[np.ndarray, ...]:
        """The list in arrays: the names as (n,) uint8 and (N + 1,) int64, for :meth:`over`."""
        names = self._names
        return np.frombuffer(names, np.uint8) if isinstance(names, bytes) else names, self._ends

    def over(self, *buffers: np.ndarray) -> ImageList:
        """The same list over other copies of its :meth:`buffers`."""
        names, ends = buffers
        return replace(self, _names=names, _ends=ends)

    def _raw(self, i: int) -> bytes:
        if not 0 <= i < len(self):
            raise IndexError(f'image {i} of {len(self)}')
        return bytes(self._names[self._ends[i]:self._ends[i + 1]])


def require_apart(images: ImageList, out: Path, what: str) -> None:
    """Refuse to write pictures into a folder whose images they would be the next time.

    Args:
        out: the folder. what: they are, for the message.

    Raises:
        UsageError: it is that of the images, or within a folder that is searched for images.
    """
    folder = Path(os.path.abspath(os.path.expanduser(out)))
    if folder == images.root or (images.source == images.root and images.root in folder.parents):
        raise UsageError(f'{what} in {out} would lie among the images of {images.root} and be '
                         f'taken for images; choose a folder beside it, such as '
                         f'{images.root}_{what}')


def distinct_keys(images: ImageList, key_of: Callable[[str], str], would: str) -> Iterable[str]:
    """What ``key_of`` makes of the names of ``images``.

    Args:
        would: what the message says that two images of one key would do; ``{}`` is the key.

    Raises:
        UsageError: there are two such images.
    """
    owners: dict[str, int] = {}
    for i in range(len(images)):
        key = key_of(images.name(i))
        other = owners.setdefault(key, i)
        if other != i:
            raise UsageError(f'{images.name(other)} and {images.name(i)} in {images.root} would '
                             f'{would.format(key)}; rename one of them or leave it out')
    return owners
