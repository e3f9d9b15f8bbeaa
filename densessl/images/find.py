"""Finding the images of a data set: in a folder, a list of paths, a JSON file or tar shards."""
from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from densessl.errors import UsageError, shown
from densessl.files.json_files import parse_json
from densessl.images import tar_index
from densessl.images.image_list import EXTENSIONS, ImageList
from densessl.images.image_names import check_listed, read_names
from densessl.images.told_by_names import holds_images, holds_labels, splits_of
from densessl.pixels.file_kinds import is_clutter


def find_images(source: str | Path) -> ImageList:
    """Find the images of a data set.

    Args:
        source: a folder, searched recursively in sorted order (linked folders too, hidden files
            and folders and :func:`~densessl.pixels.file_kinds.is_clutter` not); a folder of tar
            shards, or one of them (:mod:`densessl.images.tar_index`); a ``.txt`` file with one path
            a line, absolute or relative to the file's folder; or a ``.json`` file in COCO's format,
            whose ``file_name``s are looked for beside the file and in the folders around it.

    Raises:
        UsageError: there is no such source, or it names no images.
    """
    source = Path(os.path.abspath(os.path.expanduser(source)))
    if tar_index.is_written(source):
        return tar_index.open_shards(source)
    if source.is_dir():
        names = sorted(names_below(source, EXTENSIONS))
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


def names_below(folder: Path | bytes, suffixes: Iterable[str], prefix: bytes = b'',
                above: tuple[tuple[int, int], ...] = ()) -> Iterator[bytes]:
    """Names of the files under ``folder`` and linked folders with one of ``suffixes``, without what
    is hidden or clutter; ``above`` are the inodes of the folders around it."""
    endings = tuple(os.fsencode(suffix) for suffix in suffixes)
    try:
        state = os.stat(folder)
        inode = (state.st_dev, state.st_ino)
        if inode in above:          # a link to a folder that contains it: already being searched
            return
        with os.scandir(os.fsencode(folder)) as entries:
            found = [entry for entry in entries if not entry.name.startswith(b'.')
                     and not is_clutter(os.fsdecode(entry.name))]
    except OSError as error:
        raise UsageError(f'cannot search {os.fsdecode(folder)}: {error.strerror}; let this user '
                         f'read it, or leave it out by giving a .txt file of paths') from error
    for entry in found:
        name = prefix + entry.name
        if _is_folder(entry):
            yield from names_below(entry.path, suffixes, name + b'/', (*above, inode))
        # a broken link counts: it is reported as unreadable instead of silently left out
        elif name.lower().endswith(endings) and (entry.is_symlink() or entry.is_file()):
            yield name


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:         # a link to itself, or through a folder that may not be searched
        return False


def _from_text(source: Path) -> ImageList:
    # a name may hold U+2028 and such
    lines = (line.strip(' \t\r') for line in read_names(source).split('\n'))
    paths = [line for line in lines if line]
    if not paths:
        raise UsageError(f'{source} names no images: write one path a line')
    if not os.path.lexists(source.parent / paths[0]):
        raise UsageError(f'{source} begins with {shown(paths[0])}, but there is no such file: '
                         f'write one path a line, absolute or relative to {source.parent}')
    return _listed(source, source.parent, paths)


def _from_json(source: Path) -> ImageList:
    try:
        data = source.read_bytes()
        paths = [image['file_name'] for image in parse_json(data)['images']]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f'{source} is not a JSON file of images in COCO\'s format '
                         f'({{"images": [{{"file_name": …}}, …]}}): '
                         f'{type(error).__name__}: {error}') from error
    if not paths or not all(isinstance(path, str) and path for path in paths):
        raise UsageError(f'{source} names no images: its "images" are empty')
    check_listed(paths, source)
    return _listed(source, _image_folder(source, paths, b'"segments_info"' in data), paths)


def _image_folder(source: Path, paths: list[str], panoptic: bool) -> Path:
    """The likeliest of the folders around a JSON that have the first of its images; UsageError if
    there is none, or several that are equally likely and have equally many."""
    if os.path.lexists(source.parent / paths[0]) and not holds_labels(source.parent.name):
        return source.parent
    tried = _folders_around(source)
    if panoptic:        # https://cocodataset.org/#format-data: its maps are in the folder so named
        tried.pop(source.with_suffix(''), None)
    holding = [folder for folder in tried if os.path.lexists(folder / paths[0])]
    some = paths[::-(-len(paths) // 20)]
    fits = {folder: sum(os.path.lexists(folder / path) for path in some) for folder in holding
            if tried[folder] == tried[holding[0]]}
    best = [folder for folder in fits if fits[folder] == max(fits.values())]
    if len(best) != 1:
        where = (f'in all of {", ".join(map(str, best))}' if best else
                 f'in none of {", ".join(map(str, [*tried][:8]))}{", …" if len(tried) > 8 else ""}')
        raise UsageError(f'{source} begins with {shown(paths[0])}, which is {where}: write the '
                         f'folder into its file_name, or give a .txt file of the paths')
    return best[0]


def _folders_around(source: Path) -> dict[Path, tuple[int, ...]]:
    """Where a JSON's images may be, likeliest first, with how far down that is: beside it or, as
    ``annotations/instances_train2017.json`` has them, in ``../train2017`` or ``../images``."""
    found: dict[Path, tuple[int, ...]] = {}
    for place, base in enumerate((source.parent, source.parent.parent)):
        found.setdefault(base, (3 if place and holds_labels(source.parent.name) else 4, place, 0))
        split = splits_of(source.stem) or splits_of(source.parent.name if place else '')
        far = bool(place) and not holds_labels(source.parent.name)      # other data sets, maybe
        children = _folders_in(base)
        inner = (one / 'images' for one in children if not far and (one / 'images').is_dir())
        for folder in chain(children, _folders_in(base / 'images'), inner):
            name = folder.relative_to(base).as_posix()
            theirs = splits_of(name)
            exact = f'_{folder.name}_' in f'_{source.stem}_'
            same = bool(theirs & split) or exact
            unlikely = holds_labels(name) or (bool(split and theirs) and not same)
            found.setdefault(folder, (
                4 - 2 * same - holds_images(name) + 4 * far + 8 * unlikely, place,
                1 + name.count('/'), not (exact or folder.name == 'images'),
                not name.startswith('images/')))
    return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))


def _folders_in(folder: Path) -> list[Path]:
    """The folders in one, linked ones too, but no hidden ones; none if it is something else."""
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries
                    if not entry.name.startswith('.') and entry.is_dir()]
    except OSError:
        return []


def _listed(source: Path, folder: Path, paths: list[str]) -> ImageList:
    """The images at ``paths`` relative to ``folder``, each once, in the order of the list.

    Written for a million paths: what can be done to all of them at once is."""
    names = list(dict.fromkeys(map(os.path.normpath, paths)))
    if any(map(is_clutter, names)):
        kept = [name for name in names if not is_clutter(name)]
        print(f'{len(names) - len(kept)} names in {source} are left out, which are not images '
              f'but files that macOS and notebooks leave beside them', file=sys.stderr)
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
