"""What lies where in a tar shard: its members, grouped into samples as WebDataset groups them.

A member's key is what comes before the first dot of its base name, and members of one key are one
sample. In shards that densessl writes the image ``a/b.c.jpg`` is ``a/b%2Ec.jpg`` and its label map
``a/b%2Ec.mask.png``, or, of several, ``a/b%2Ec.0.mask.png``, …: a dot that belongs to the name
would end the key.
"""
from __future__ import annotations

import os
import posixpath
import re
import tarfile
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from densessl.errors import UsageError
from densessl.images.image_list import EXTENSIONS
from densessl.images.image_names import is_inside_anywhere, refuse
from densessl.images.told_by_names import holds_images, holds_labels
from densessl.pixels.file_kinds import is_clutter

BLOCK = tarfile.BLOCKSIZE           # 512: what a header takes and contents are padded to
SCAN = 2048 * BLOCK                 # what is read at a time behind an archive's end
MAX_MAPS = 64                       # label maps of an image
_JPEG = ('.jpg', '.jpeg', '.jpe', '.jfif')
_MASK = re.compile(r'(?:(\d{1,4})\.)?mask\.png', re.IGNORECASE)
Place = tuple[int, int]             # offset and size of a member's contents, in bytes


@dataclass(slots=True)
class Sample:
    """Members of one key: the images by extension, the label maps by number."""

    images: dict[str, Place] = field(default_factory=dict)
    masks: dict[int, Place] = field(default_factory=dict)


def image_member(name: str) -> str:
    """What the image ``name`` is called in a shard."""
    key, extension = key_of(name)
    return f'{key}.{extension}'


def mask_member(name: str, which: int = 0, maps: int = 1) -> str:
    """What label map ``which`` of ``maps`` of the image ``name`` is called in a shard."""
    key, _ = key_of(name)
    return f'{key}.mask.png' if maps == 1 else f'{key}.{which}.mask.png'


def image_name(key: str, extension: str) -> str:
    """The image of which :func:`image_member` made ``key`` and ``extension``."""
    folder, slash, base = key.rpartition('/')
    base = base.replace('%2E', '.').replace('%25', '%')
    return f'{folder}{slash}{base}.{extension}' if extension else f'{folder}{slash}{base}'


def key_of(name: str) -> tuple[str, str]:
    """The key of the image ``name``, and its extension without the dot."""
    stem, extension = posixpath.splitext(name)
    if extension == '.':                # a list of paths may name anything
        stem, extension = name, ''
    folder, slash, base = stem.rpartition('/')
    base = base.replace('%', '%25').replace('.', '%2E')
    return f'{folder}{slash}{base}', extension[1:]


def header(name: str, size: int) -> bytes:
    """The header of a member of ``size`` bytes; the same on every machine and day."""
    member = tarfile.TarInfo(name)       # mode 0644, of user and time 0
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT, 'utf-8', 'surrogateescape')


def header_size(name: str) -> int:
    """The length of :func:`header`: a name that does not fit into it is a member before its own,
    with a NUL at its end."""
    length = len(os.fsencode(name))
    return BLOCK if length <= 100 else 2 * BLOCK + -(-(length + 1) // BLOCK) * BLOCK


def read_samples(path: Path) -> tuple[dict[str, Sample], Counter[str]]:
    """The samples of a shard by key, in its order.

    Returns:
        Them, and how many members are not read: ``links``, which stand for no bytes of their own,
        and those whose name comes ``again``, of which the last counts, as when the files are
        unpacked.

    Raises:
        UsageError: the file is not a tar file, is damaged, or a name in it leads out of its folder.
    """
    samples: dict[str, Sample] = {}
    left_out: Counter[str] = Counter()
    for member in _members(path):
        left_out['links'] += member.islnk() or member.issym()
        stem, dot, extension = posixpath.basename(member.name).partition('.')
        if not (member.isreg() and stem and dot) or member.issparse() or is_clutter(member.name):
            continue
        place = (member.offset_data, member.size)
        mask = _MASK.fullmatch(extension)
        if not mask and '.' in extension and _kind(extension) not in EXTENSIONS:
            continue
        folder, slash, _ = _shortest(member.name, path).rpartition('/')
        sample = samples.setdefault(f'{folder}{slash}{stem}', Sample())
        places, kind = (sample.masks, int(mask[1] or 0)) if mask else (sample.images, extension)
        left_out['again'] += kind in places
        places[kind] = place
    for sample in samples.values():
        _drop_stray_masks(sample)
    return samples, left_out


def _shortest(name: str, path: Path) -> str:
    """A member's name without empty parts and dots; UsageError if it leads out of its folder."""
    if not is_inside_anywhere(name):
        name = name if '..' in name.split('/') else posixpath.normpath(name)
        if not is_inside_anywhere(name):
            refuse(name, path)
    return name


def _drop_stray_masks(sample: Sample) -> None:
    """Keep label maps 0 … n-1: an index has columns for all numbers up to the largest in it, so a
    number after a gap, or beyond :data:`MAX_MAPS`, would cost memory for every image."""
    kept = takewhile(sample.masks.__contains__, range(MAX_MAPS))
    sample.masks = {which: sample.masks[which] for which in kept}


def likeliest_images(sample: Sample, fields: Collection[str] = ()
                     ) -> tuple[list[str], list[str]]:
    """The extensions of the images of a foreign sample that are taken, and of the others.

    JPEGs come before others, because what lies beside a photograph as PNG or TIFF is mostly a
    label, and the first is taken. An extension with a dot in it is that of a label or the like
    (``a.seg.png``), unless the sample has no other images: then the dots belong to the names of as
    many images as there are (``Shot 10.12.33.jpg``, ``Shot 10.15.07.jpg``). Several of ``fields``,
    extensions that recur (``a.rgb.png``, ``a.depth.png``), are of one sample: its image is the one
    that says so."""
    images = [extension for extension in sample.images if _kind(extension) in EXTENSIONS]
    images.sort(key=lambda extension: _kind(extension) not in _JPEG)
    taken = [extension for extension in images if '.' not in extension][:1]
    if not taken:
        named = [extension for extension in images if not holds_labels(extension)]
        if len(named) > 1 and any(extension in fields for extension in named):
            named = list(filter(holds_images, named))[:1]
        taken = [one for one in named if (_kind(one) in _JPEG) == (_kind(named[0]) in _JPEG)]
    return taken, [extension for extension in images if extension not in taken]


def _kind(extension: str) -> str:
    return f'.{extension.lower().rpartition(".")[2]}'


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    """The headers in a tar file, read by jumps from one to the next; of several files that were
    joined (``cat a.tar b.tar``), those of each."""
    try:
        with open(path, 'rb') as file:
            end = os.fstat(file.fileno()).st_size
            start: int | None = 0
            while start is not None:
                file.seek(start)
                with tarfile.open(fileobj=file, mode='r:', encoding='utf-8',
                                  errors='surrogateescape') as tar:
                    while (member := tar.next()) is not None:
                        tar.members.clear()        # which would keep them all
                        if member.offset_data + (member.size if member.isreg() else 0) > end:
                            raise tarfile.ReadError('unexpected end of data')
                        yield member
                    start = _next_archive(file, tar.offset, end)
    except (tarfile.TarError, OSError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise UsageError(f'{path} is damaged or not a tar file: {reason}; copy it again') from error


def _next_archive(file: BinaryIO, offset: int, end: int) -> int | None:
    """Where the next archive of a joined file begins: behind the zeros that end the one before.

    Raises:
        tarfile.ReadError: what is at ``offset`` is neither the end of an archive nor a header.
    """
    file.seek(offset)
    if any(file.read(BLOCK)):
        raise tarfile.ReadError(f'there is no header at byte {offset}')
    while offset < end:
        file.seek(offset)
        blocks = np.frombuffer(file.read(SCAN).ljust(SCAN, b'\0'), np.uint8).reshape(-1, BLOCK)
        used = np.flatnonzero(blocks.any(axis=1))
        if len(used):
            begin = offset + int(used[0]) * BLOCK
            _require_header(file, begin)
            return begin
        offset += SCAN
    return None


def _require_header(file: BinaryIO, begin: int) -> None:
    file.seek(begin)
    try:
        tarfile.TarInfo.frombuf(file.read(BLOCK), 'utf-8', 'surrogateescape')
    except tarfile.HeaderError as error:
        raise tarfile.ReadError(f'there is no header at byte {begin}') from error
