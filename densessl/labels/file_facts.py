"""What opening the files of a labelled data set tells, found out in parallel and remembered.

Opening is what takes time; what a file's content means is asked anew each time. A file is opened
again when its size or its time of modification is another, and always while it is unusable.
"""
from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from densessl import __version__
from densessl.errors import RunFailed, UsageError
from densessl.files.folders import cache_root
from densessl.files.writing import write_atomically
from densessl.labels.label_ids import UnusableMap, read_ids, read_segments, read_stored
from densessl.machine.cores import cores
from densessl.pixels.decode import UnreadableImage, open_image
from densessl.pixels.pixel_rule import PLAIN, PixelRule
from densessl.progress import Progress

FileKind = Literal['image', 'ids', 'segments', 'map', 'bytes']
FOLDER = 'opened'      # below the cache's root
MISSING = 'is not there'
_told: set[str] = set()    # for which folders it was said that nothing can be kept


@dataclass(frozen=True)
class FileFacts:
    """What was seen in one file.

    Attributes:
        size: (H, W) as displayed; (0, 0) if it cannot be used.
        counts: of a map: id → pixels.
        wrong: why the file cannot be used, in words; None if it can.
        odd: what is odd about a file that can be used.
        digest: of the content, where no more than its ``bytes`` were asked for.
    """

    size: tuple[int, int] = (0, 0)
    counts: Mapping[int, int] | None = None
    wrong: str | None = None
    odd: str | None = None
    digest: str | None = None


def open_file(path: str, kind: FileKind, rule: PixelRule = PLAIN) -> FileFacts:
    """Open one file, all of it.

    Args:
        kind: ``image``, a label map of ``ids``, a panoptic map of ``segments``, or a ``map`` of
            which no more than its size matters, or ``bytes`` of any meaning.
        rule: by which images are read.
    """
    if not os.path.exists(path):
        dangling = os.path.islink(path)
        return FileFacts(wrong='is a link to a file that does not exist' if dangling else MISSING)
    try:
        if kind == 'bytes':
            with open(path, 'rb') as file:
                return FileFacts(digest=_digest(file.read()))
        if kind == 'image':
            stored = open_image(path, rule)
            odd = f'it ends too early, {stored.damage}' if stored.damage else None
            return FileFacts(stored.pixels().shape[:2], odd=odd)
        if kind == 'map':
            return FileFacts(read_stored(path).shape[:2])
        ids = (read_ids if kind == 'ids' else read_segments)(path)
    except UnreadableImage as error:
        return FileFacts(wrong=f'cannot be read: {" ".join(error.reason.split())}')
    except UnusableMap as error:
        return FileFacts(wrong=str(error))
    except FileNotFoundError:      # it was taken away meanwhile
        return FileFacts(wrong=MISSING)
    except OSError as error:
        return FileFacts(wrong=f'cannot be read: {error.strerror}')
    if kind == 'ids':
        return FileFacts(ids.shape, {value: number for value, number
                                     in enumerate(np.bincount(ids.ravel()).tolist()) if number})
    values, numbers = np.unique(ids, return_counts=True)
    return FileFacts(ids.shape, dict(zip(values.tolist(), numbers.tolist(), strict=True)))


def open_files(files: Iterable[tuple[str, FileKind]], root: Path | None = None, *,
               rule: PixelRule = PLAIN, what: str = 'opening', progress: bool = True
               ) -> dict[str, FileFacts]:
    """Open all of ``files``, or remember what was seen in them; facts by path.

    Args:
        root: a folder that all are in, under which it is remembered; None: the innermost one.
        rule: by which images are read.
        what: the word before the progress bar.
    """
    kinds = dict(files)
    if not kinds:
        return {}
    memory = _Memory(os.path.abspath(root) if root else os.path.commonpath(
        [os.path.dirname(os.path.abspath(path)) for path in kinds]), rule)
    found = {path: facts for path, kind in kinds.items()
             if (facts := memory.recall(path, kind)) is not None}
    to_open = [path for path in kinds if path not in found]
    pool = ThreadPoolExecutor(cores())
    try:
        with Progress(what, len(to_open), enabled=progress and bool(to_open)) as bar:
            waiting = {pool.submit(memory.open, path, kinds[path]): path for path in to_open}
            for done, future in enumerate(as_completed(waiting), 1):
                found[waiting[future]] = future.result()
                bar.update(done)
    finally:
        pool.shutdown(cancel_futures=True)       # Ctrl-C does not wait for the rest
        if to_open:
            memory.write()
    return found


class _Memory:
    """Facts of the files below one folder, kept in the cache. A cache that cannot be written only
    costs time, and one that cannot be read is made again."""

    def __init__(self, root: str, rule: PixelRule) -> None:
        self.root, self.rule = root, rule
        self.entries: dict[str, list] = {}
        with suppress(OSError, ValueError):
            digest, _, content = self._file().read_text().partition('\n')
            if digest == _digest(content):
                self.entries = json.loads(content)

    def _file(self) -> Path:
        # readers change from version to version, and with them what is seen in a file
        key = f'{__version__}\n{self.rule}\n{self.root}'
        return cache_root() / FOLDER / f'{_digest(key)}.json'

    def recall(self, path: str, kind: FileKind) -> FileFacts | None:
        """What was seen in a file that is still the same."""
        entry = self.entries.get(f'{kind} {os.path.abspath(path)}')
        if entry is None or entry[:3] != [kind, *_stamp(path)]:
            return None
        facts = dict(entry[3], size=tuple(entry[3]['size']))
        if facts['counts'] is not None:
            facts['counts'] = {int(value): number for value, number in facts['counts'].items()}
        return FileFacts(**facts)

    def open(self, path: str, kind: FileKind) -> FileFacts:
        """Open a file, and remember it if it can be used."""
        stamp = _stamp(path)         # before: if it is written meanwhile, it is opened again
        facts = open_file(path, kind, self.rule)
        if facts.wrong is None:
            self.entries[f'{kind} {os.path.abspath(path)}'] = [kind, *stamp, asdict(facts)]
        else:
            self.entries.pop(f'{kind} {os.path.abspath(path)}', None)
        return facts

    def write(self) -> None:
        content = json.dumps(self.entries, separators=(',', ':'))
        try:
            write_atomically(self._file(), f'{_digest(content)}\n{content}'.encode(),
                             shared=True)
        except (UsageError, RunFailed) as error:
            if self.root not in _told:
                _told.add(self.root)
                print(f'{error}; the labelled files will be opened again the next time, unless '
                      f'$DENSESSL_CACHE names a folder that can be written', file=sys.stderr)


def _stamp(path: str) -> tuple[int, int]:
    try:
        state = os.stat(path)
    except OSError:
        return -1, -1
    return state.st_size, state.st_mtime_ns


def _digest(content: str | bytes) -> str:
    return hashlib.blake2b(os.fsencode(content), digest_size=16).hexdigest()
