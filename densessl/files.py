"""Writing files so that an interrupted write leaves what was there, and where kept work goes."""
from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from densessl.errors import UsageError

# of atomic_path, of write_atomically, of require_work_folder, and of checkpoints of version 0.1
_LEFTOVER = re.compile(r'\.(?P<name>.+)\.(?P<pid>\d+)\.part|\.[0-9a-f]{16}\.tmp|\.densessl-\w{8}'
                       r'|\.(?:iter|epoch|best)_.+\.pth\.part')
# what a run alone writes into its work folder
_OF_RUNS = re.compile(r'(?:iter|epoch|best)_.+\.pth|last_checkpoint|(?:run|subset|scores)\.json')


def cache_root() -> Path:
    """The folder of what can be made again: ``$DENSESSL_CACHE``, else ``$XDG_CACHE_HOME/densessl``,
    else ``~/.cache/densessl``. It need not exist."""
    default = Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache') / 'densessl'
    return Path(os.environ.get('DENSESSL_CACHE') or default).expanduser().absolute()


def require_work_folder(folder: Path) -> None:
    """Raise UsageError unless ``folder`` can be written to, or made; leaves no trace."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        which = 'is a file' if there == folder else f'cannot be made: {there} is a file'
        raise UsageError(f'--work-dir {folder} {which}')
    try:
        with TemporaryDirectory(prefix='.densessl-', dir=there):
            pass
    except OSError as error:
        raise UsageError(f'--work-dir {folder} cannot be written to: {error.strerror}') from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path to write to that becomes ``path`` only when the block ends well, on the disk too: the
    file is flushed before it is renamed, and its folder afterwards."""
    unfinished = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        yield unfinished
        move_into_place(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def move_into_place(unfinished: Path, path: Path) -> None:
    """Rename a file that is written, so that neither a kill nor a power cut leaves half of it."""
    _flush(unfinished)
    os.replace(unfinished, path)
    _flush_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8), atomically."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(text, encoding='utf-8')


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as readable JSON, atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + '\n')


def write_atomically(path: Path, data: bytes, *, shared: bool = False, flush: bool = True) -> None:
    """Write ``data`` beside ``path`` and rename it there, so that ``path`` is never half written.

    The temporary name is a fixed one, so that the next build overwrites what a killed one left;
    that of a file ``shared`` by shards, which may write it at the same time, is the process's own.

    Args:
        flush: to the disk before the rename. Without it (of a million small files, say) the caller
            flushes all of them before anything says that they are complete.
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
        if flush:
            move_into_place(temporary, path)
        else:
            os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f'cannot write {path}: {error.strerror}') from error


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name is what a killed write of ours leaves behind."""
    return _LEFTOVER.fullmatch(name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writes left in a work folder; the caller holds its lock. What another
    command may be writing there now (an export beside a checkpoint) is left to it."""
    for path in folder.iterdir():
        match = _LEFTOVER.fullmatch(path.name)
        if match is None or (match['pid'] and not _OF_RUNS.fullmatch(match['name'])
                             and Path('/proc', match['pid']).exists()):
            continue
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):     # of require_work_folder
                path.rmdir()
        else:
            path.unlink(missing_ok=True)


def flush_everything() -> None:
    """Flush all files of this system, where it can be asked to: cheaper than one by one where there
    are very many."""
    if hasattr(os, 'sync'):
        os.sync()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    """Have the disk know of a rename, where the file system can be asked to."""
    with suppress(OSError):
        _flush(folder)
