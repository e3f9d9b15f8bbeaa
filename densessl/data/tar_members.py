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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from densessl.data.file_kinds import is_clutter
from densessl.data.images import EXTENSIONS
from densessl.errors import UsageError

BLOCK = tarfile.BLOCKSIZE           # 512: what a header takes and contents are padded to
_JPEG = ('jpg', 'jpeg', 'jpe', 'jfif')
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


def read_samples(path: Path) -> tuple[dict[str, Sample], int]:
    """The samples of a shard by key, in its order; and how many members are links, which stand
    for no bytes of their own and are left out.

    Raises:
        UsageError: the file is no tar file, or damaged.
    """
    samples: dict[str, Sample] = {}
    links = 0
    for member in _members(path):
        links += member.islnk() or member.issym()
        name = member.name.removeprefix('./').lstrip('/')
        folder, slash, base = name.rpartition('/')
        stem, dot, extension = base.partition('.')
        if not (member.isreg() and stem and dot) or member.issparse() or is_clutter(name):
            continue
        place = (member.offset_data, member.size)
        mask = _MASK.fullmatch(extension)
        if not mask and extension.count('.'):
            continue
        sample = samples.setdefault(f'{folder}{slash}{stem}', Sample())
        if mask:
            sample.masks[int(mask[1] or 0)] = place
        else:
            sample.images[extension] = place
    return samples, links


def likeliest_images(sample: Sample) -> list[str]:
    """The extensions of a foreign sample's images, of which the first is the one to take: JPEGs
    before others, because what lies beside a photograph as PNG or TIFF is mostly a label."""
    known = [extension for extension in sample.images if f'.{extension.lower()}' in EXTENSIONS]
    return sorted(known, key=lambda extension: extension.lower() not in _JPEG)


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    """The headers in a tar file, read by jumps from one to the next."""
    try:
        with tarfile.open(path, 'r:', encoding='utf-8', errors='surrogateescape') as tar:
            end = os.stat(path).st_size
            while (member := tar.next()) is not None:
                tar.members.clear()        # which would keep them all
                if member.offset_data + (member.size if member.isreg() else 0) > end:
                    raise tarfile.ReadError('unexpected end of data')
                yield member
            tar.fileobj.seek(tar.offset)
            if any(tar.fileobj.read(BLOCK)):      # neither the end nor a header
                raise tarfile.ReadError(f'there is no header at byte {tar.offset}')
    except (tarfile.TarError, OSError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise UsageError(f'{path} is damaged or no tar file: {reason}; copy it again') from error
