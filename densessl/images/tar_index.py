"""Finding the images of tar shards: an index, beside the shards that densessl wrote.

::

    shards.json     the shards; how many images, the digest of their names, how masks were made
    index.npz       the names, and where in the shards each image and its label maps are
    000000.tar …    WebDataset's layout: the members of an image lie next to each other

Shards that others wrote have no index: it is made once, and kept in the cache.
"""
from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from densessl.errors import UsageError, shown
from densessl.files.folders import cache_root
from densessl.files.json_files import parse_json
from densessl.images.image_list import EXTENSIONS, ImageList
from densessl.images.image_names import is_inside_anywhere
from densessl.images.mask_facts import check_info
from densessl.images.tar_files import TarFiles
from densessl.images.tar_images import TarImages
from densessl.images.tar_index_file import load_index, save_index
from densessl.images.tar_layout import Place, image_name, likeliest_images, read_samples
from densessl.progress import Progress

INFO, INDEX, FORMAT = 'shards.json', 'index.npz', 1
SCANNED = 3             # raise it when the same tar files are indexed in another way
COMPRESSED = ('.tar.gz', '.tgz', '.tar.bz2', '.tar.xz', '.tar.zst')
Row = tuple[str, int, Place, dict[int, Place]]     # name, shard, image, label maps by number


# -- shards that densessl wrote -------------------------------------------------------------------

def is_written(source: Path) -> bool:
    """Whether ``source`` is a folder of shards that densessl wrote or began to write."""
    return (source / INFO).is_file()


def open_shards(folder: Path) -> TarImages:
    """The images of a folder of shards by its index.

    Raises:
        UsageError: the folder is unfinished, or not what its index says.
    """
    info = read_info(folder)
    if not info.get('complete'):
        raise UsageError(f'the shards in {folder} are unfinished: run the same "densessl '
                         f'make_shards" again, it goes on where it stopped')
    _check_files(folder, info['shards'])
    try:
        names, ends, entries = load_index(folder / INDEX,
                                          [shard['bytes'] for shard in info['shards']])
        maps = 0 if info['masks'] is None else info['masks'].get('maps', 1)
        if (entries.shape[1] - 3) // 2 != maps:
            raise ValueError(f'its label maps are not those of {INFO}')
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f'{folder / INDEX} cannot be used ({error}): {_again(folder)}') from error
    files = TarFiles(folder, [shard['file'] for shard in info['shards']])
    images = TarImages(folder, folder, names, ends, files, entries, info['masks'])
    if images.digest() != info['digest']:
        raise UsageError(f'{folder / INDEX} lists other images than {INFO}: {_again(folder)}')
    return images


def read_info(folder: Path) -> dict[str, Any]:
    """What ``folder``'s ``shards.json`` says."""
    path = folder / INFO
    try:
        info = parse_json(path.read_bytes())
        _check_info(info)
    except (OSError, ValueError) as error:
        raise UsageError(f'{path} cannot be used: {error}; {_again(folder)}') from error
    return info


def _check_info(info: Any) -> None:
    """ValueError unless ``info`` is what :mod:`densessl.shards.write` writes, now or one day:
    other keys may stand beside those that are needed."""
    if not isinstance(info, dict):
        raise ValueError('it is not a JSON object')
    if info.get('format') != FORMAT:
        raise ValueError(f'its format is {shown(info.get("format"))}, this densessl reads {FORMAT}')
    wanted = {'source', 'shard_size', 'masks'}
    if info.get('complete'):
        wanted |= {'digest', 'shards'}
    if not wanted <= set(info):
        raise ValueError(f'it must have {", ".join(sorted(wanted))}')
    shards = info.get('shards', [])
    if not isinstance(shards, list):
        raise ValueError('its shards are not a list')
    for shard in shards:
        name, size = map((shard if isinstance(shard, dict) else {}).get, ('file', 'bytes'))
        if not (isinstance(name, str) and is_inside_anywhere(name) and '/' not in name
                and type(size) is int and 0 <= size < 2 ** 62):
            raise ValueError(f'each shard must have the name of a file beside it and its bytes, '
                             f'not {shown(shard)}')
    if info['masks'] is not None:
        check_info(info['masks'])


def _check_files(folder: Path, shards: list[dict[str, Any]]) -> None:
    for shard in shards:
        path = folder / shard['file']
        try:
            found = os.stat(path).st_size
        except OSError as error:
            raise UsageError(f'{path}: {error.strerror}, but {INFO} lists it: '
                             f'{_again(folder)}') from error
        if found != shard['bytes']:
            raise UsageError(f'{path} has {found} bytes, not the {shard["bytes"]} that {INFO} '
                             f'says: {_again(folder)}')


def _again(folder: Path) -> str:
    return (f'copy it again, or repair {folder} by the same "densessl make_shards" that wrote it')


# -- any shards -----------------------------------------------------------------------------------

def find_tars(folder: Path) -> list[str]:
    """The names of the tar files in a folder, in sorted order.

    Raises:
        UsageError: all there are are compressed.
    """
    names = sorted(name for name in os.listdir(folder) if not name.startswith('.'))
    tars = [name for name in names if name.lower().endswith('.tar')
            and (folder / name).is_file()]
    compressed = [name for name in names if name.lower().endswith(COMPRESSED)]
    if compressed and not tars:
        refuse_compressed(folder / compressed[0])
    if compressed:
        print(f'{len(compressed)} compressed tar files in {folder}, such as {compressed[0]}, are '
              f'left out', file=sys.stderr)
    return tars


def refuse_compressed(path: Path) -> None:
    """Refuse a compressed tar file, in which no image can be found without reading all before."""
    if path.name.lower().endswith(COMPRESSED):
        raise UsageError(f'{path} is compressed, so images in it cannot be read by their '
                         f'position: decompress the shards first')


def open_tar(source: Path) -> TarImages:
    """The images of a single tar file; of one that densessl wrote, by the index beside it."""
    if is_written(source.parent):
        images = open_shards(source.parent)
        if source.name in images.shards.names:
            number = images.shards.names.index(source.name)
            chosen = images.select(np.flatnonzero(images.entries[:, 0] == number))
            return replace(chosen, source=source)
    return scan_shards(source, [source.name])


def scan_shards(source: Path, names: list[str]) -> TarImages:
    """The images of tar files that anybody wrote, ``SHARD/KEY.EXTENSION`` by name.

    Args:
        source: their folder, or the only one.
        names: of the files.

    Raises:
        UsageError: a file is damaged, or there is no image in them.
    """
    folder = source if source.is_dir() else source.parent
    states = [os.stat(folder / name) for name in names]
    key = json.dumps([SCANNED, str(source), [(name, state.st_size, state.st_mtime_ns)
                                            for name, state in zip(names, states, strict=True)]])
    digest = hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:12]
    kept = cache_root() / 'shards' / f'{source.name[:80]}-{digest}.npz'
    try:
        arrays = load_index(kept, [state.st_size for state in states])
    except ValueError:      # it is missing or damaged
        arrays = _scan(source, folder, names)
        _keep(kept, arrays)
    image_names, ends, entries = arrays
    masks = {} if entries.shape[1] > 3 else None     # nobody knows how they were made
    return TarImages(source, source, image_names, ends, TarFiles(folder, names), entries, masks,
                     in_folders=False)


def _scan(source: Path, folder: Path, names: list[str]) -> tuple[np.ndarray, ...]:
    print(f'indexing {len(names)} tar files in {folder}, once', file=sys.stderr)
    parts, counts = [], Counter()
    with Progress('indexed', len(names)) as bar:
        for number, name in enumerate(names):
            samples, left_out = read_samples(folder / name)
            rows: list[Row] = []
            dotted = Counter(extension for sample in samples.values()
                             for extension in sample.images if '.' in extension)
            fields = {extension for extension, times in dotted.items() if times > 1}
            for key, sample in samples.items():
                taken, others = likeliest_images(sample, fields)
                counts['several'] += bool(taken) and any('.' not in one for one in others)
                counts['labels'] += 0 if taken else len(others)
                counts['dotted'] += sum('.' in extension for extension in taken)
                rows += [(f'{name[:-4]}/{key}.{extension}', number, sample.images[extension],
                          sample.masks if len(taken) == 1 else {}) for extension in taken]
            parts.append(index(rows, folder / name))
            counts += left_out
            bar.update(number + 1)
    arrays = join(parts)
    if not len(arrays[2]):
        labels = f' besides {counts["labels"]} label maps' if counts['labels'] else ''
        raise UsageError(f'no images in the {len(names)} tar files of {source}{labels} (looked for '
                         f'{", ".join(sorted(EXTENSIONS))})')
    for kind, what in (('several', 'samples have several images: a JPEG is taken, or the first'),
                       ('dotted', 'images have several dots in their names, and are taken'),
                       ('labels', 'label maps without an image are left out'),
                       ('links', 'links in the tar files are left out'),
                       ('again', 'members repeat an earlier name: the last of each is taken')):
        if counts[kind]:
            print(f'{counts[kind]} {what}', file=sys.stderr)
    return arrays


def written_rows(path: Path, number: int) -> list[Row]:
    """Rows for :func:`index` of shard ``number``, which densessl wrote."""
    samples, _ = read_samples(path)
    return [(image_name(key, extension), number, place, sample.masks)
            for key, sample in samples.items() for extension, place in sample.images.items()]


def index(rows: list[Row], source: Path) -> tuple[np.ndarray, ...]:
    """Names, their ends and entries of :class:`TarImages` from its rows.

    Raises:
        UsageError: a name leads out of its folder; ``source`` is what the message calls the list.
    """
    maps = 1 + max((max(masks, default=-1) for *_, masks in rows), default=-1)
    entries = np.zeros((len(rows), 3 + 2 * maps), np.int64)
    for entry, (_, number, place, masks) in zip(entries, rows, strict=True):
        entry[:3] = number, *place
        for which, (offset, size) in masks.items():
            entry[3 + 2 * which:5 + 2 * which] = offset, size
    names, ends = ImageList.of(source, source, [os.fsencode(row[0]) for row in rows]).buffers()
    return names, ends, entries


def join(parts: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    """One index of several, one after the other; label maps that only some have are missing in
    the others."""
    columns = max(entries.shape[1] for *_, entries in parts)
    ends = np.zeros(1 + sum(len(entries) for *_, entries in parts), np.int64)
    np.cumsum(np.concatenate([np.diff(some) for _, some, _ in parts]), out=ends[1:])
    return (np.concatenate([names for names, *_ in parts]), ends,
            np.concatenate([np.pad(entries, ((0, 0), (0, columns - entries.shape[1])))
                            for *_, entries in parts]))


def _keep(path: Path, arrays: tuple[np.ndarray, ...]) -> None:
    try:
        save_index(path, arrays)
    except UsageError as error:
        print(f'{error}; the tar files will be indexed again the next time, unless '
              f'$DENSESSL_CACHE names a folder that can be written', file=sys.stderr)
