"""Unlabelled images: any folder, list of paths, JSON of images or folder of tar shards is a data
set.

:meth:`ImageList.read` is the only reader: masks and training see the same pixels the same way up.
"""
from __future__ import annotations

import codecs
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from densessl.data.decode import (
    StoredImage,
    UnreadableImage,
    image_size,
    open_data,
    open_image,
    read_data,
    read_image,
)
from densessl.data.file_kinds import is_clutter
from densessl.data.image_names import check_listed, check_names
from densessl.data.pixel_rule import PLAIN, PixelRule
from densessl.errors import UsageError, shown
from densessl.files import parse_json

if TYPE_CHECKING:
    from densessl.data.tar_masks import TarMasks

__all__ = ['EXTENSIONS', 'ImageList', 'UnreadableImage', 'find_images', 'image_size', 'open_image',
           'read_data', 'read_image']

EXTENSIONS = frozenset('.jpg .jpeg .jpe .jfif .png .apng .bmp .dib .gif .tif .tiff .webp .avif '
                       '.jp2 .ppm .pgm .pbm .pnm'.split())


@dataclass(frozen=True, eq=False)
class ImageList:
    """Images by name. A million names are one buffer, so loader workers share or copy it cheaply.

    Attributes:
        root: the folder that names are relative to.
        source: what was given: a folder, a list of paths, a JSON file or a tar file.
        in_folders: whether the folders in the names are those of files.
        rule: how stored values become pixels; :mod:`densessl.data.range_survey` sets it.
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
            UsageError: a name leads out of ``root`` (:mod:`densessl.data.image_names`).
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
            raise UnreadableImage(self.where(i), 'the file is not what it was a moment ago')
        return state.st_size, state.st_mtime_ns

    def data(self, i: int) -> bytes:
        """The bytes of image ``i`` as stored; raises as :meth:`stat`."""
        return read_data(self.path(i))

    def open(self, i: int) -> StoredImage:
        """Image ``i``, of which no more than the header is decoded; raises as
        :func:`~densessl.data.decode.open_image`."""
        return open_data(self.where(i), self.data(i), self.rule)

    def read(self, i: int) -> np.ndarray:
        """Image ``i``, (H, W, 3) uint8 RGB; raises as :func:`~densessl.data.decode.read_image`."""
        return self.open(i).pixels()

    def size(self, i: int) -> tuple[int, int]:
        """(H, W) of image ``i``; raises as :func:`~densessl.data.decode.image_size`."""
        return image_size(self.path(i))

    def masks(self) -> TarMasks | None:
        """The label maps that are kept with the images, if there are any."""
        return None

    def select(self, keep: Iterable[int]) -> ImageList:
        """The images at the positions ``keep``, in that order."""
        chosen = ImageList.of(self.root, self.source, [self._raw(i) for i in keep])
        return replace(chosen, rule=self.rule)

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


def find_images(source: str | Path) -> ImageList:
    """Find the images of a data set.

    Args:
        source: a folder, searched recursively in sorted order (linked folders too, hidden files
            and folders and :func:`~densessl.data.file_kinds.is_clutter` not); a folder of tar
            shards, or one of them (:mod:`densessl.data.tar_index`); a ``.txt`` file with one path a
            line, absolute or relative to the file's folder; or a ``.json`` file in COCO's format,
            whose ``file_name``s are looked for beside the file and in the folders around it.

    Raises:
        UsageError: there is no such source, or it names no images.
    """
    from densessl.data import tar_index
    source = Path(os.path.abspath(os.path.expanduser(source)))
    if tar_index.is_written(source):
        return tar_index.open_shards(source)
    if source.is_dir():
        names = sorted(_walk(os.fsencode(source), b'', ()))
        if names:
            return ImageList.of(source, source, names)
        shards = tar_index.find_tars(source)
        if shards:
            return tar_index.scan_shards(source, shards)
        raise UsageError(f'no images in {source} or its subfolders, and no .tar files in it '
                         f'(looked for {", ".join(sorted(EXTENSIONS))}; hidden files do not count)')
    if not source.exists():
        raise UsageError(f'no such folder or file of images: {source}')
    readers = {'.txt': _from_text, '.json': _from_json, '.tar': tar_index.open_tar}
    if source.suffix.lower() not in readers:
        tar_index.refuse_compressed(source)
        raise UsageError(f'images must be a folder, a .txt file of paths, a COCO .json file or a '
                         f'.tar file, not {source}')
    try:
        return readers[source.suffix.lower()](source)
    except OSError as error:
        raise UsageError(f'cannot read {source}: {error.strerror}') from error


def _walk(folder: bytes, prefix: bytes, above: tuple[tuple[int, int], ...]) -> Iterator[bytes]:
    """Names of the images under ``folder``; ``above`` are the inodes of the folders around it."""
    suffixes = tuple(os.fsencode(extension) for extension in EXTENSIONS)
    try:
        state = os.stat(folder)
        inode = (state.st_dev, state.st_ino)
        if inode in above:          # a link to a folder that contains it: already being searched
            return
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.name.startswith(b'.')
                     and not is_clutter(os.fsdecode(entry.name))]
    except OSError as error:
        raise UsageError(f'cannot search {os.fsdecode(folder)}: {error.strerror}; let this user '
                         f'read it, or leave it out by giving a .txt file of paths') from error
    for entry in found:
        name = prefix + entry.name
        if _is_folder(entry):
            yield from _walk(entry.path, name + b'/', (*above, inode))
        # a broken link counts: it is reported as unreadable instead of silently left out
        elif name.lower().endswith(suffixes) and (entry.is_symlink() or entry.is_file()):
            yield name


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:         # a link to itself, or through a folder that may not be searched
        return False


def _from_text(source: Path) -> ImageList:
    data = source.read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))     # of Windows' editors
    text = data.decode('utf-16' if wide else 'utf-8-sig', 'replace' if wide else 'surrogateescape')
    if '\0' in text or '\ufffd' in text[:wide * len(text)]:
        raise UsageError(f'{source} has NUL characters in it, or begins as UTF-16 and goes on as '
                         f'something else: save it as UTF-8, one path a line')
    lines = (line.strip(' \t\r') for line in text.split('\n'))   # a name may hold U+2028 and such
    paths = [line for line in lines if line]
    if not paths:
        raise UsageError(f'{source} names no images: write one path a line')
    if not os.path.lexists(source.parent / paths[0]):
        raise UsageError(f'{source} begins with {shown(paths[0])}, but there is no such file: '
                         f'write one path a line, absolute or relative to {source.parent}')
    return _listed(source, source.parent, paths)


def _from_json(source: Path) -> ImageList:
    try:
        images = parse_json(source.read_bytes())['images']
        paths = [image['file_name'] for image in images]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f'{source} is not a JSON file of images in COCO\'s format '
                         f'({{"images": [{{"file_name": …}}, …]}}): '
                         f'{type(error).__name__}: {error}') from error
    if not paths or not all(isinstance(path, str) and path for path in paths):
        raise UsageError(f'{source} names no images: its "images" are empty')
    check_listed(paths, source)
    folders = list(_folders_around(source))
    for folder in folders:
        if os.path.lexists(folder / paths[0]):
            return _listed(source, folder, paths)
    raise UsageError(f'{source} begins with {shown(paths[0])}, which is in none of '
                     f'{", ".join(str(folder) for folder in folders[:8])}'
                     f'{", …" if len(folders) > 8 else ""}')


def _folders_around(source: Path) -> Iterator[Path]:
    """Where a JSON's images may be, likeliest first: ``annotations/instances_train2017.json`` has
    them in ``../train2017``, others beside it, in ``images`` or in ``images/train2017``."""
    bases = [source.parent, source.parent.parent]

    def inside(folder: Path) -> list[Path]:
        folders = [path for path in folder.glob('*') if path.is_dir()]
        return sorted(folders, key=lambda path: (path.name not in source.stem, path.name))

    for base in bases:
        yield base
        yield from inside(base)
    for base in bases:
        yield from inside(base / 'images')


def _listed(source: Path, folder: Path, paths: list[str]) -> ImageList:
    """The images at ``paths`` relative to ``folder``, each once, in the order of the list.

    Written for a million paths: what can be done to all of them at once is."""
    names = list(dict.fromkeys(map(os.path.normpath, paths)))
    if any(map(is_clutter, names)):
        kept = [name for name in names if not is_clutter(name)]
        print(f'{len(names) - len(kept)} names in {source} are left out, which are of no images '
              f'but of what macOS and notebooks leave beside them', file=sys.stderr)
        names = kept
    if not names:
        raise UsageError(f'{source} names no images')
    if any(name.startswith((os.sep, '..')) for name in names):      # absolute, or not inside
        start = os.path.join(folder, '')
        if not all(name.startswith(os.sep) for name in names):
            names = list(dict.fromkeys(os.path.normpath(start + name) if name[0] != os.sep else name
                                       for name in names))
        if not all(name.startswith(start) for name in names):
            # what the first and the last in sorted order share, all share
            start = os.path.join(os.path.commonpath([os.path.dirname(name) for name in
                                                     (min(names), max(names))]), '')
        folder, names = Path(start), [name[len(start):] for name in names]
    encoded = os.fsencode('\0'.join(names)).split(b'\0')
    if len(encoded) != len(names):
        raise UsageError(f'{source} has a path with a NUL character in it')
    return ImageList.of(folder, source, encoded)
