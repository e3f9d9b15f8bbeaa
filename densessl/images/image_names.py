"""Names out of lists, archives and indexes: checked once, where a list of images is made.

Whatever is kept for an image (mask, picture, tar member) is written under its name, so no name may
lead out of a folder. Names are posix paths relative to a folder, as bytes one after the other.
"""
from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from densessl.errors import UsageError, shown

_SLASH, _DOT = ord('/'), ord('.')
_ODD = re.compile(rb'/\.{0,2}/|\0')
_ABROAD = re.compile(rb'\\|[A-Za-z]:[\\/]')         # at the start: absolute where Windows reads it
_UNUSUAL = re.compile(r'^/|\.\.|[\\:\0]')
_RULE = 'it must lead from its folder inwards, without "..", empty parts and NUL'


def is_inside(name: str | bytes) -> bool:
    """Whether ``name`` is a relative posix path in its shortest form that stays in its folder."""
    raw = _bytes(name)
    return b'\0' not in raw and not any(part in (b'', b'.', b'..') for part in raw.split(b'/'))


def is_inside_anywhere(name: str | bytes) -> bool:
    """As :func:`is_inside`, also where a backslash separates folders: for the names in files that
    others made."""
    raw = _bytes(name)
    return (is_inside(raw) and not _ABROAD.match(raw)
            and (b'\\' not in raw or b'..' not in re.split(rb'[\\/]', raw)))


def read_names(path: Path) -> str:
    """The text of a list of names: UTF-8, or UTF-16 as Windows' editors write it.

    Raises:
        UsageError: it is neither.
    """
    data = path.read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode('utf-16' if wide else 'utf-8-sig', 'replace' if wide else 'surrogateescape')
    if '\0' in text or (wide and '\ufffd' in text):
        raise UsageError(f'{path} has NUL characters in it, or begins as UTF-16 and goes on as '
                         f'something else: save it as UTF-8, one path a line')
    return text


def check_listed(names: Iterable[str], source: Path) -> None:
    """Check the names of images in a file that others may have made. They need not be in their
    shortest form: that is what must not lead out.

    Raises:
        UsageError: as :func:`check_names`.
    """
    for name in names:
        plain = name.isascii() and not _UNUSUAL.search(name)
        if not plain and not (is_inside_anywhere(name)
                              or is_inside_anywhere(os.path.normpath(name))):
            refuse(name, source)


def check_names(names: bytes, ends: np.ndarray, source: Path, *, foreign: bool = False) -> None:
    """Check all names of a list, a million in a fraction of a second.

    Args:
        names: one after the other. ends: (N + 1,) int64; name i is ``names[ends[i]:ends[i + 1]]``.
        source: what messages call the list.
        foreign: whether others may have made it (:func:`is_inside_anywhere`).

    Raises:
        UsageError: a name leads out of its folder.
    """
    if len(ends) < 2:
        return
    fits = is_inside_anywhere if foreign else is_inside
    for i in _suspects(names, ends, foreign):
        name = names[ends[i]:ends[i + 1]]
        if not fits(name):
            refuse(os.fsdecode(name), source)


def refuse(name: str, source: Path) -> None:
    """Raise the error of a name that leads out of its folder."""
    raise UsageError(f'{source} names an image {shown(name)}: {_RULE}; rename it there, or give a '
                     f'text file of the paths')


def _bytes(name: str | bytes) -> bytes:
    """As the system spells it; for what it cannot spell, a name that is refused."""
    try:
        return os.fsencode(name)
    except UnicodeEncodeError:
        return b''


def _suspects(names: bytes, ends: np.ndarray, foreign: bool) -> Iterable[int]:
    """The positions of names that may be wrong; few, where none is."""
    if np.any(np.diff(ends) <= 0):
        return np.flatnonzero(np.diff(ends) <= 0)
    if foreign and (b'\\' in names or b':' in names):
        return range(len(ends) - 1)
    array = np.frombuffer(names, np.uint8)
    first, last = array[ends[:-1]], array[ends[1:] - 1]
    edges = np.isin(first, (_SLASH, _DOT)) | np.isin(last, (_SLASH, _DOT))
    inner = [match.start() for match in _ODD.finditer(names)]
    return np.union1d(np.flatnonzero(edges), np.searchsorted(ends, inner, 'right') - 1)


def check_links(root: Path, names: Iterable[str], option: str) -> None:
    """Check that what is to be written under ``names`` lands in the folder ``root``, wherever its
    subfolders may be links to.

    Args:
        option: how messages call the folder.

    Raises:
        UsageError: a subfolder leads out of it.
    """
    real = os.path.realpath(root)
    for folder in sorted({os.path.dirname(name) for name in names} - {''}):
        real_folder = os.path.realpath(root / folder)
        if os.path.commonpath([real, real_folder]) != real:
            raise UsageError(f'{option} {root}: its folder {shown(folder)} is a link to '
                             f'{real_folder}, outside of it; remove the link, or choose '
                             f'another folder')
