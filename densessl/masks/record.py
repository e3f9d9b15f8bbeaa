"""The state of each image when its mask was made: how a mask store notices changed images.

A store keeps it in ``images.npz``: a hash of each image's name, its size, when it was written, and
a hash of its bytes. An image has changed if its size has; if only the time differs, as after a
copy, its bytes decide. The same holds for the files that a generator takes its regions from, of
which it keeps a hash of sizes and times (``stamp``) and one of the bytes (``files``; 0: of none).
"""
from __future__ import annotations

import hashlib
import io
import os
import sys
import zipfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.lib.recfunctions import require_fields

from densessl.files.writing import write_atomically
from densessl.images.image_list import ImageList
from densessl.masks.generator import MaskGenerator
from densessl.masks.metadata import SHARDS
from densessl.pixels.decode import UnreadableImage

RECORD = 'images.npz'
STATE = np.dtype([('name', '<u8'), ('size', '<i8'), ('time', '<i8'), ('bytes', '<u8'),
                  ('stamp', '<u8'), ('files', '<u8')])
THREADS = 8             # network file systems answer many at a time
PART = 4096             # images that a thread looks at in one go

NOTHING = (0,) * 6      # the state of an image without a mask, as STATE
UNKNOWN, SAME, CHANGED = 0, 1, 2    # what is known of an image whose mask is there


class Share:
    """A shard's images, and what is known of them from an earlier build.

    Args:
        positions: of its images; shard: (I, N).

    Attributes:
        states: (n,) of :data:`STATE`, for the build to fill in.
        status: (n,) uint8: :data:`UNKNOWN`, :data:`SAME` or :data:`CHANGED`.
        changed: the positions of the images that have changed.
    """

    def __init__(self, images: ImageList, positions: range, out: Path, shard: tuple[int, int],
                 generator: MaskGenerator) -> None:
        self.images, self.positions, self.out = images, positions, out
        self.path = _shard_record(out, *shard)
        self.states = read_record(out / RECORD, images, positions)
        if _written(self.path) >= _written(out / RECORD):       # else it was joined to that
            unfinished = read_record(self.path, images, positions)
            self.states = np.where(unfinished['size'] > 0, unfinished, self.states)
        self.changed = changed_images(images, positions, self.states, generator)
        self.status = np.where(self.states['size'] > 0, SAME, UNKNOWN).astype(np.uint8)
        self.status[[positions.index(i) for i in self.changed]] = CHANGED

    def write(self) -> None:
        """Keep what is known, of a build that was stopped, too."""
        write_record(self.path, self.states, self.images.digest())


def join_records(out: Path, images: ImageList, shards: int) -> None:
    """Write the store's record from those of its ``shards``."""
    states = np.zeros(len(images), STATE)
    for i in range(shards):
        positions = range(i, len(images), shards)
        states[i::shards] = read_record(_shard_record(out, i, shards), images, positions)
    write_record(out / RECORD, states, images.digest())


def _written(path: Path) -> int:
    """When a file was written (ns); 0 if it is not there."""
    return path.stat().st_mtime_ns if path.exists() else 0


def _shard_record(out: Path, i: int, n: int) -> Path:
    return out / SHARDS / f'{i}-of-{n}.npz'


def write_record(path: Path, states: np.ndarray, digest: str) -> None:
    """Keep ``states``, (n,) of :data:`STATE`, of images of the list with ``digest``."""
    content = io.BytesIO()      # always the same bytes: numpy.savez writes no time
    np.savez(content, states=states, digest=np.array(digest))
    write_atomically(path, content.getvalue(), shared=True)


def read_record(path: Path, images: ImageList, positions: Sequence[int]) -> np.ndarray:
    """What the record in ``path`` knows of the ``images`` at ``positions``: (n,) of :data:`STATE`
    in their order, of size 0 for those of which it knows nothing. A store that others made may have
    no record."""
    try:
        with np.load(path, allow_pickle=False) as content:   # a zip file, whose checksums are read
            states, digest = content['states'], str(content['digest'])
        if states.ndim != 1 or not {*STATE.names[:4]} <= {*(states.dtype.names or ())}:
            raise ValueError('it holds something else')
        states = require_fields(states, STATE)      # older stores know of images alone
    except (FileNotFoundError, NotADirectoryError):     # of shards, the store is a tar file
        return np.zeros(len(positions), STATE)
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        print(f'{path} cannot be used ({error}): images that have changed since their masks were '
              f'made go unnoticed until "densessl make_masks" has been run again', file=sys.stderr)
        return np.zeros(len(positions), STATE)
    if digest == images.digest() and len(states) == len(positions):
        return states
    return _by_name(states, images, positions)


def has_changed(images: ImageList, i: int, recorded: np.void, generator: MaskGenerator | None
                ) -> bool:
    """Whether image ``i``, or a file from which ``generator`` has its regions, differs from the
    ``recorded`` one or is gone; False if nothing was recorded. ``recorded`` takes a new time."""
    if not recorded['size']:
        return False
    try:
        size, time = images.stat(i)
        if size != recorded['size']:
            return True
        if time != recorded['time']:
            if _hash(images.data(i)) != recorded['bytes']:
                return True
            recorded['time'] = time
        if generator and recorded['files']:
            stamp, content = _state_of_files(generator, images.name(i))
            if stamp != recorded['stamp'] and content() != recorded['files']:
                return True
            recorded['stamp'] = stamp
    except (UnreadableImage, OSError, LookupError):
        return True
    return False


def changed_images(images: ImageList, positions: Sequence[int], recorded: np.ndarray,
                   generator: MaskGenerator | None) -> list[int]:
    """Those of ``positions`` whose image :func:`has_changed`, by a look at each file; ``recorded``
    is what :func:`read_record` says of them."""
    if not recorded['size'].any():
        return []

    def look(part: range) -> list[int]:
        return [positions[k] for k in part
                if has_changed(images, positions[k], recorded[k], generator)]

    parts = (range(start, min(start + PART, len(positions)))
             for start in range(0, len(positions), PART))
    with ThreadPoolExecutor(THREADS) as pool:
        return [i for found in pool.map(look, parts) for i in found]


def state_now(images: ImageList, i: int, generator: MaskGenerator) -> tuple[int, ...]:
    """The state of image ``i``, as :data:`STATE`.

    Raises:
        UnreadableImage: it is missing or empty.
    """
    size, time = images.stat(i)         # first: bytes that change in the meantime are noticed
    stamp, content = _state_of_files(generator, images.name(i))
    return _name(images, i), size, time, _hash(images.data(i)), stamp, content()


def _state_of_files(generator: MaskGenerator, name: str) -> tuple[int, Callable[[], int]]:
    """The stamp of the files that the regions of ``name`` are from, and what hashes their bytes."""
    files = [(path, os.stat(path)) for path in generator.files_for(name)]
    facts = [(path, state.st_size, state.st_mtime_ns) for path, state in files]
    return (_hash(repr([fact[1:] for fact in facts]).encode()),
            lambda: _hash(repr([_hash_of_file(*fact) for fact in facts]).encode()) if files else 0)


@lru_cache(64)      # one file may be that of all images
def _hash_of_file(path: str | Path, size: int, time: int) -> int:
    return _hash(Path(path).read_bytes())


def named(images: ImageList, positions: Iterable[int]) -> str:
    """The first of the images at ``positions``, for a message: ``a.jpg, b.jpg, c.jpg, …``."""
    positions = list(positions)
    return ', '.join([*(images.name(i) for i in positions[:3]), *['…'] * (len(positions) > 3)])


def _by_name(states: np.ndarray, images: ImageList, positions: Sequence[int]) -> np.ndarray:
    states = np.sort(states, order='name')
    names = np.fromiter((_name(images, i) for i in positions), np.uint64, len(positions))
    found = np.zeros(len(positions), STATE)
    if len(states):
        at = np.searchsorted(states['name'], names).clip(max=len(states) - 1)
        same = states['name'][at] == names
        found[same] = states[at[same]]
    return found


def _name(images: ImageList, i: int) -> int:
    return _hash(os.fsencode(images.name(i)))


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), 'little')
