"""Labelled data below a root folder: where it is, and what of it is missing."""
from __future__ import annotations

import os
import re
from collections.abc import Container, Sequence
from pathlib import Path

from densessl.errors import UsageError
from densessl.images.image_names import read_names

SPLITS = ('train', 'val')
_FLAG = re.compile(r'\s+[+-]?[01]$')    # whether an object of a class is in the image


def require(wanted: Sequence[str], root: Path, hint: str) -> None:
    """Raise UsageError, with ``hint``, unless all of ``wanted`` exist below ``root``."""
    missing = [part for part in wanted if not (root / part).exists()]
    if not root.is_dir():
        raise UsageError(f'no folder {root}; {hint}')
    if missing:
        raise UsageError(f'{root} has no {", no ".join(missing)}; {hint}')


def devkit(root: str | Path, *parts: str) -> Path:
    """``root``, or the folder ``VOCdevkit`` in it if that has one of ``parts`` and ``root`` has
    none: users name either."""
    root = Path(root)
    return next((folder for folder in (root, root / 'VOCdevkit')
                 if any((folder / part).exists() for part in parts)), root)


def read_list(path: Path, known: Container[str] = ()) -> list[str]:
    """The names in a list of images, one a line, each once: the whole line if it is among
    ``known``, so that names may have spaces; else what is left without a flag (``name 1``,
    ``name -1``) or a suffix; else the first word.

    Raises:
        UsageError: there is none, or the file is not text.
    """
    lines = read_names(path).splitlines()
    names = [_listed_name(line.strip(), known) for line in lines if line.strip()]
    if not names:
        raise UsageError(f'{path} lists no images')
    return list(dict.fromkeys(names))


def listed_images(path: Path, folder: Path) -> list[str]:
    """As :func:`read_list`, of names of the images in ``folder``, without suffix."""
    return read_list(path, {one.stem for one in folder.iterdir()})


def _listed_name(line: str, known: Container[str]) -> str:
    unflagged = _FLAG.sub('', line)
    for name in (line, unflagged):
        for one in (name, name.rpartition('.')[0], name.rpartition('/')[2],
                    name.rpartition('/')[2].rpartition('.')[0]):
            if one and one in known:
                return one
    return line.split()[0] if not known else unflagged


def missing_files(paths: Sequence[Path], source: Path) -> None:
    """Raise UsageError if some of ``paths``, which ``source`` lists, are not there. Compares with
    listings of the folders: asking for each file is slow on a network."""
    listed = {folder: set(os.listdir(folder)) if folder.is_dir() else set()
              for folder in {path.parent for path in paths}}
    missing = [path for path in paths if path.name not in listed[path.parent]]
    if missing:
        raise UsageError(f'{len(missing)} of the {len(paths)} {missing[0].suffix} files that '
                         f'{source} lists are not there, such as {missing[0]}')
