"""Writing files so that an interrupted write leaves what was there."""
from __future__ import annotations

import glob
import hashlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from densessl.environment import explain, is_failed_write, shortened
from densessl.errors import RunFailed

GRACE = 60.0           # seconds for which an unfinished file is left alone
# of atomic_path, write_atomically, require_work_folder, version 0.1; what a run alone writes
_LEFTOVER = re.compile(r'\.(?P<name>.+)\.(?P<pid>\d+)\.part|\.[0-9a-f]{16}\.tmp|\.densessl-\w{8}'
                       r'|\.(?:iter|epoch|best)_.+\.pth\.part')
_OF_RUN = re.compile(r'(?:(?:iter|epoch|best)_.+|start|best)\.pth|last_checkpoint|'
                      r'(?:run|subset|scores)\.json|(?:health|probes|alarms)\.jsonl')


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within, an error of writing becomes one that names ``path``.

    Raises:
        RunFailed: the disk has no more room, or the write failed in another way.
        UsageError: ``path`` may not be written.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not is_failed_write(error):
            raise
        # without the name of an unfinished file
        plain = OSError(error.errno, error.strerror) if isinstance(error, OSError) else error
        known = explain(plain) or RunFailed(str(error))
        raise type(known)(f'cannot write {shortened(str(path))}: {known}') from error


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path to write to that becomes ``path`` only when the block ends well, on the disk too: the
    file is flushed before it is renamed, and its folder afterwards.

    Raises:
        RunFailed, UsageError: it cannot be written; the message names ``path`` and says why.
    """
    with writing(path), replacing(path) as unfinished:
        yield unfinished


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """What :func:`atomic_path` does, with the system's own errors, for callers that say more."""
    _remove_parts_of_the_dead(path)
    with _renamed(path.with_name(f'.{path.name}.{os.getpid()}.part'), path) as unfinished:
        yield unfinished


@contextmanager
def _renamed(unfinished: Path, path: Path, flush: bool = True) -> Iterator[Path]:
    """``unfinished``, which becomes ``path`` if the block ends well and is removed otherwise."""
    try:
        yield unfinished
        if flush:
            _flush(unfinished)
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):     # what went wrong before is what counts
            unfinished.unlink(missing_ok=True)
        raise
    if flush:
        with suppress(OSError):     # the file system may not flush folders
            _flush(path.parent)


def write_text(path: Path, text: str, errors: str = 'strict') -> None:
    """Write ``text`` (UTF-8), atomically; ``errors`` as Python's own: what becomes of names that
    are not UTF-8."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(text, encoding='utf-8', errors=errors)


def write_atomically(path: Path, data: bytes, *, shared: bool = False, flush: bool = True) -> None:
    """Write ``data`` beside ``path`` and rename it there, so that ``path`` is never half written.

    The temporary name is a fixed one, so that the next build overwrites what a killed one left;
    that of a file ``shared`` by shards, which may write it at the same time, is the process's own.

    Args:
        flush: to the disk before the rename. Without it (of a million small files, say) the caller
            flushes all of them before anything says that they are complete.
    """
    writer = f'{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}' if shared else ''
    # hashed, because a file's name may already be as long as the system allows
    short = hashlib.blake2b(os.fsencode(path.name + writer), digest_size=8).hexdigest()
    with writing(path), _renamed(path.with_name(f'.{short}.tmp'), path, flush) as unfinished:
        try:
            unfinished.write_bytes(data)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(data)


def _remove_parts_of_the_dead(path: Path) -> None:
    """Remove what killed writes of ``path`` left beside it: parts that no living process of this
    machine has, and that nobody has written to for :data:`GRACE`."""
    for part in path.parent.glob(f'.{glob.escape(path.name)}.*.part'):
        match = _LEFTOVER.fullmatch(part.name)
        with suppress(OSError):
            if match and match['pid'] and not process_lives(int(match['pid'])) and (
                    time.time() - part.stat().st_mtime > GRACE):
                part.unlink()


def process_lives(pid: int) -> bool:
    """Whether a process of this machine has that number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:     # another user's
        pass
    return True


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name is what a killed write of ours leaves behind."""
    return _LEFTOVER.fullmatch(name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writes left in a work folder; the caller holds its lock. What another
    command may be writing there now (an export beside a checkpoint) is left to it."""
    for path in folder.iterdir():
        match = _LEFTOVER.fullmatch(path.name)
        if match is None or (match['pid'] and not _OF_RUN.fullmatch(match['name'])
                             and Path('/proc', match['pid']).exists()):
            continue
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):     # of require_work_folder
                path.rmdir()
        else:
            path.unlink(missing_ok=True)


def flush_everything() -> None:
    """Flush all files of this system, where it can be asked to: cheaper than very many of them one
    by one."""
    if hasattr(os, 'sync'):
        os.sync()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
