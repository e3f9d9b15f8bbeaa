"""The file of an index of tar shards: written whole, and checked before anything is read by it."""
from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from densessl.files.opening import unpacked_size
from densessl.files.writing import write_atomically
from densessl.images.image_names import check_names
from densessl.images.tar_layout import MAX_MAPS

_UNREADABLE = (OSError, ValueError, KeyError, EOFError, MemoryError, SyntaxError, TypeError,
               NotImplementedError, zipfile.BadZipFile)
Arrays = tuple[np.ndarray, ...]       # names, their ends, entries of TarImages


def save_index(path: Path, arrays: Arrays) -> None:
    """Write an index so that ``path`` is never half written."""
    content = io.BytesIO()
    np.savez(content, **dict(zip(('names', 'ends', 'entries'), arrays, strict=True)))
    write_atomically(path, content.getvalue(), shared=True)


def load_index(path: Path, sizes: list[int]) -> Arrays:
    """Read an index, which others may have written.

    Args:
        sizes: of the shards, in bytes.

    Raises:
        ValueError: it cannot be read, or does not fit the shards.
        UsageError: a name in it leads out of its folder.
    """
    try:
        unpacked = unpacked_size(path)
        if unpacked is not None and unpacked > path.stat().st_size:
            raise ValueError('it is packed, as densessl writes none')
        with np.load(path, allow_pickle=False) as content:
            arrays = content['names'], content['ends'], content['entries']
    except _UNREADABLE as error:
        raise ValueError(str(error).splitlines()[0] if str(error) else type(error).__name__
                         ) from error
    _check_shapes(*arrays)
    _check_places(arrays[2], np.array(sizes, np.int64))
    names, ends, _ = arrays
    check_names(names.tobytes(), ends, path, foreign=True)
    return arrays


def _check_shapes(names: np.ndarray, ends: np.ndarray, entries: np.ndarray) -> None:
    kinds = [(array.dtype, array.ndim) for array in (names, ends, entries)]
    if kinds != [(np.uint8, 1), (np.int64, 1), (np.int64, 2)]:
        raise ValueError('its arrays are not those of an index')
    columns = entries.shape[1]
    if len(ends) != len(entries) + 1 or columns % 2 == 0 or not 3 <= columns <= 3 + 2 * MAX_MAPS:
        raise ValueError(f'its arrays of {len(ends) - 1} names and {entries.shape} places do not '
                         f'fit together')
    if ends[0] != 0 or ends[-1] != len(names) or np.any(ends[1:] <= ends[:-1]):
        raise ValueError('its names do not follow each other')


def _check_places(entries: np.ndarray, sizes: np.ndarray) -> None:
    """Every stretch must lie within its shard."""
    shard = entries[:, 0]
    if np.any(shard < 0) or np.any(shard >= len(sizes)):
        raise ValueError('it names shards that are not there')
    end = sizes[shard]
    for column in range(1, entries.shape[1], 2):
        offset, size = entries[:, column], entries[:, column + 1]
        if np.any(offset < 0) or np.any(size < 0) or np.any(offset > end - size):
            raise ValueError('it has places outside of the shards')
