"""The mask store: a folder of PNG label maps that mirrors the image tree, and what is in it.

::

    masks.json                 generator, parameters, version; images, masks, skipped, complete
    skipped.txt                the images without a mask, each with the reason
    train/a.png                the label map of train/a.jpg: 8 bits, or 16 above 256 regions
    .shards/0-of-1.json        written by each shard of the build when it is done

A generator that makes several label maps of an image has a folder for each: ``0/train/a.png``,
``1/train/a.png``, …

Masks are only ever touched by path, so a store of a million costs no more to open than one of ten.
"""
from __future__ import annotations

import hashlib
import json
import os
import posixpath
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

import densessl
from densessl.data.images import ImageList, UnreadableImage
from densessl.errors import UsageError

if TYPE_CHECKING:
    from densessl.data.masks import MaskGenerator

INFO, SKIPPED, SHARDS = 'masks.json', 'skipped.txt', '.shards'
MAX_REGIONS = 1 << 16
# zlib level 6: a third smaller than level 1 and as fast to read, which happens every epoch. Rows
# unfiltered (8: PNG_FILTER_NONE), where OpenCV can (4.11 on): runs of equal ids stay runs, which
# reads in half the time and is a sixth smaller; PNG's differences between rows suit photographs.
_PNG = [cv2.IMWRITE_PNG_COMPRESSION, 6,
        *([cv2.IMWRITE_PNG_FILTER, 8] if hasattr(cv2, 'IMWRITE_PNG_FILTER') else [])]


class MaskStore:
    """A folder of label maps. Opening it reads ``masks.json`` and, of an unfinished store, the
    marks of its shards.

    Attributes:
        root: the folder.
        info: what ``masks.json`` says: ``generator``, ``parameters``, ``version``, ``densessl``,
            ``images`` and ``digest`` of the list of images, ``maps`` if an image has several; when
            ``complete``, also how many images have their ``masks`` and how many were ``skipped``.

    Raises:
        UsageError: ``root`` is no mask store.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.info = read_info(self.root)
        if not self.info.get('complete'):
            self.info |= _totals(gather_marks(self.root, self.info.get('digest')) or [])

    @property
    def maps(self) -> int:
        """How many label maps an image has."""
        return self.info.get('maps', 1)

    @property
    def complete(self) -> bool:
        """Whether every image of the list it was made for has a mask or was skipped."""
        return bool(self.info.get('complete'))

    def path(self, name: str, which: int = 0) -> Path:
        """Where label map ``which`` of image ``name`` is: ``a/b.jpg`` → ``root/a/b.png``, or, of
        several, ``root/0/a/b.png``."""
        folder = self.root if self.maps == 1 else self.root / str(which)
        return folder / mask_name(name)

    def has(self, name: str) -> bool:
        """Whether image ``name`` has its mask, or all of them. A file that is there is whole: it
        was renamed into its place (an empty one is what a crash of the machine may leave)."""
        try:
            return all(os.stat(self.path(name, which)).st_size > 0 for which in range(self.maps))
        except OSError:
            return False

    def read(self, name: str, which: int = 0) -> np.ndarray:
        """Label map ``which`` (0 ≤ which < ``maps``) of image ``name``: (H, W) uint8 or uint16.

        Raises:
            UnreadableImage: it is missing or damaged.
        """
        path = self.path(name, which)
        try:
            labels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        except (OSError, cv2.error) as error:
            raise UnreadableImage(path, f'the mask cannot be read: {error}') from error
        if labels is None or labels.ndim != 2:
            raise UnreadableImage(path, 'not a PNG label map')
        return labels

    def skipped(self) -> dict[str, str]:
        """The images without a mask, by name, and why; from one file."""
        path = self.root / SKIPPED
        if not path.exists():
            return {}
        text = path.read_text(encoding='utf-8', errors='surrogateescape')
        pairs = [line.split('\t', 1) for line in text.split('\n') if line]
        return {_unescape(name): reason for name, reason in pairs}


def mask_name(name: str) -> str:
    """The label map's name for the image ``name``, relative to the store."""
    return posixpath.splitext(name)[0] + '.png'


def encode(labels: np.ndarray) -> bytes:
    """(H, W) integers 0..n-1 as a PNG of 8 bits, or of 16 if there are more than 256 regions."""
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer) or not labels.size:
        raise ValueError(f'a label map must be (H, W) integers, '
                         f'not {labels.shape} {labels.dtype}')
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MAX_REGIONS:
        raise ValueError(f'labels must be in 0..{MAX_REGIONS - 1}, not in {low}..{high}')
    _, data = cv2.imencode('.png', labels.astype(np.uint8 if high < 256 else np.uint16), _PNG)
    return data.tobytes()


def write_atomically(path: Path, data: bytes, *, shared: bool = False) -> None:
    """Write ``data`` beside ``path`` and rename it there, so that ``path`` is never half written.

    The temporary name is a fixed one, so that the next build overwrites what a killed one left;
    that of a file ``shared`` by shards, which may write it at the same time, is the process's own.
    """
    own = f'{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}' if shared else ''
    # hashed, because a file's name may already be as long as the system allows
    short = hashlib.blake2b(os.fsencode(path.name + own), digest_size=8).hexdigest()
    temporary = path.with_name(f'.{short}.tmp')
    try:
        try:
            temporary.write_bytes(data)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f'cannot write {path}: {error.strerror}') from error


# -- what is in a store --------------------------------------------------------------------------

def begin(root: Path, images: ImageList, generator: MaskGenerator) -> None:
    """Write ``masks.json``, or check that the one that is there is of the same masks."""
    ours, path = describe(generator), root / INFO
    try:
        root.mkdir(parents=True, exist_ok=True)
        # the order matters: a shard that starts at the same time writes masks.json, then masks
        strangers = not path.exists() and any(name[0] != '.' for name in os.listdir(root))
    except OSError as error:
        raise UsageError(f'cannot write masks to {root}: {error.strerror}') from error
    if strangers and not path.exists():
        raise UsageError(f'{root} is not empty and has no {INFO}, so it is not a mask store; '
                         f'choose another folder')
    known = read_info(root) if path.exists() else {}
    theirs = {key: known[key] for key in ours if known}
    if theirs and theirs != ours:
        raise UsageError(f'{root} was made with {spell(theirs)}, not {spell(ours)}; choose another '
                         f'folder or delete it')
    listed = {'images': len(images), 'digest': images.digest()}
    if generator.maps > 1:
        listed['maps'] = generator.maps
    if {key: known.get(key) for key in listed} != listed:
        write_json(path, ours | {'densessl': densessl.__version__} | listed)


def describe(generator: MaskGenerator) -> dict[str, Any]:
    """What decides the masks: the generator's name, parameters and version, as JSON has them."""
    try:
        parameters = json.loads(json.dumps(generator.parameters()))
    except TypeError as error:
        raise UsageError(f'parameters() of mask generator {generator.name!r} must return what '
                         f'JSON can hold: {error}') from error
    return {'generator': generator.name, 'parameters': parameters, 'version': generator.version}


def spell(info: dict[str, Any]) -> str:
    """``name(parameter=value, …) version 1`` of what :func:`describe` returns."""
    values = ', '.join(f'{name}={value!r}' for name, value in info['parameters'].items())
    return f'{info["generator"]}({values}) version {info["version"]}'


def read_info(root: Path) -> dict[str, Any]:
    """The contents of ``root``'s ``masks.json``."""
    path = root / INFO
    try:
        info = json.loads(path.read_text(encoding='utf-8'))
        if not {'generator', 'parameters', 'version'} <= set(info):
            raise ValueError('it must have "generator", "parameters" and "version"')
    except FileNotFoundError as error:
        raise UsageError(f'{root} is not a mask store: it has no {INFO} (make one with '
                         f'"densessl make_masks IMAGES {root}")') from error
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f'{path} cannot be used: {error}') from error
    return info


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` so that ``path`` is never half written."""
    write_atomically(path, json.dumps(content, indent=2).encode() + b'\n',
                     shared=True)


def write_mark(root: Path, shard: tuple[int, int], digest: str, masks: int,
               skipped: dict[str, str]) -> None:
    """Say that ``shard`` = (I, N) of the list of images ``digest`` is done."""
    write_json(root / SHARDS / f'{shard[0]}-of-{shard[1]}.json',
               {'digest': digest, 'masks': masks, 'skipped': skipped})


def gather_marks(root: Path, digest: str | None) -> list[dict[str, Any]] | None:
    """The marks of all shards of one way to split the images ``digest``, if all are done."""
    groups: dict[int, dict[int, dict[str, Any]]] = {}
    for path in sorted((root / SHARDS).glob('*-of-*.json')):
        mark = json.loads(path.read_text(encoding='utf-8'))
        if mark['digest'] == digest:
            i, n = map(int, path.stem.split('-of-'))
            groups.setdefault(n, {})[i] = mark
    done = [list(marks.values()) for n, marks in groups.items() if len(marks) == n]
    return done[0] if done else None


def finish(root: Path, images: ImageList, marks: list[dict[str, Any]]) -> None:
    """Write ``skipped.txt`` and complete ``masks.json``. Shards that end together write the same
    bytes, so it does not matter which is last."""
    skipped = {name: reason for mark in marks for name, reason in mark['skipped'].items()}
    lines = [f'{_escape(name)}\t{" ".join(skipped[name].split())}\n' for name in sorted(skipped)]
    write_atomically(root / SKIPPED, ''.join(lines).encode('utf-8', 'surrogateescape'),
                     shared=True)
    totals = _totals(marks)
    if not totals:
        raise UsageError(f'none of the {len(images)} images in {images.source} gave a mask; '
                         f'{lines[0].strip()}' if lines else f'no images in {images.source}')
    write_json(root / INFO, read_info(root) | totals)


def _totals(marks: list[dict[str, Any]]) -> dict[str, Any]:
    """What the marks of all shards come to; nothing if not one mask could be made."""
    masks = sum(mark['masks'] for mark in marks)
    skipped = sum(len(mark['skipped']) for mark in marks)
    return {'masks': masks, 'skipped': skipped, 'complete': True} if masks else {}


def _escape(name: str) -> str:
    return name.replace('\\', '\\\\').replace('\n', '\\n').replace('\t', '\\t')


def _unescape(name: str) -> str:
    return (name.replace('\\\\', '\0').replace('\\n', '\n').replace('\\t', '\t')
            .replace('\0', '\\'))
