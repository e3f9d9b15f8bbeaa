"""Writing files so that an interrupted write leaves what was there; folders for what is kept."""
from __future__ import annotations

import errno
import glob
import hashlib
import json
import math
import os
import re
import socket
import stat
import threading
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from densessl.environment import explain, is_failed_write, shortened
from densessl.errors import UsageError, shown

MAX_NESTING = 100      # of JSON
GRACE = 60.0           # seconds for which an unfinished file is left alone
# of atomic_path, write_atomically, require_work_folder, version 0.1; what a run alone writes
_LEFTOVER = re.compile(r'\.(?P<name>.+)\.(?P<pid>\d+)\.part|\.[0-9a-f]{16}\.tmp|\.densessl-\w{8}'
                       r'|\.(?:iter|epoch|best)_.+\.pth\.part')
_OF_RUN = re.compile(r'(?:(?:iter|epoch|best)_.+|start|best)\.pth|last_checkpoint|'
                      r'(?:run|subset|scores)\.json|(?:health|probes|alarms)\.jsonl')


def cache_root() -> Path:
    """The folder of what can be made again: ``$DENSESSL_CACHE``, else ``$XDG_CACHE_HOME/densessl``,
    else ``~/.cache/densessl``. It need not exist."""
    default = Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache') / 'densessl'
    return Path(os.environ.get('DENSESSL_CACHE') or default).expanduser().absolute()


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file to read its bytes, and never wait for a pipe.

    Raises:
        OSError: it is missing, may not be read, or is a pipe, socket or device.
    """
    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, 'O_NONBLOCK', 0))

    file = open(path, 'rb', opener=opener)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, 'a pipe, socket or device instead of a file', str(path))
    return file


def require_cache() -> None:
    """Raise UsageError unless the cache can be written to, or made."""
    reason = _why_unwritable(cache_root())
    if reason:
        raise UsageError(f'the cache {cache_root()} {reason}: set DENSESSL_CACHE to a folder that '
                         f'can be written to')


def work_folder(given: str | Path | None, default: str) -> Path:
    """The folder that ``--work-dir`` names, or the default one if it was not given.

    Raises:
        UsageError: it is empty, which could mean the current folder or the default.
    """
    if given is not None and not str(given).strip():
        raise UsageError("--work-dir '': name a folder, or leave it out")
    return Path(given or default)


def require_work_folder(folder: Path) -> None:
    """Raise UsageError unless ``folder`` can be written to, or made; leaves no trace."""
    reason = _why_unwritable(folder)
    if reason:
        raise UsageError(f'--work-dir {shown(str(folder))} {reason}')


def _why_unwritable(folder: Path) -> str:
    try:
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except (OSError, ValueError) as error:      # a name that no system takes
        return f'cannot be a folder: {error.args[-1]}'
    if not existing.is_dir():
        return 'is a file' if existing == folder else f'cannot be made: {existing} is a file'
    try:
        with TemporaryDirectory(prefix='.densessl-', dir=existing):
            return ''
    except OSError as error:
        return f'cannot be written to: {error.strerror}'


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within, an error of writing becomes one that names ``path``.

    Raises:
        RunFailed: the disk has no more room.
        UsageError: ``path`` may not be written.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if not is_failed_write(error):
            raise
        # without the name of an unfinished file
        plain = OSError(error.errno, error.strerror) if isinstance(error, OSError) else error
        known = explain(plain) or UsageError(str(error))
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


def parse_json(text: str | bytes) -> Any:
    """What JSON from anywhere holds.

    Raises:
        ValueError: it is not JSON, or nested more than :data:`MAX_NESTING` deep.
    """
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError('it is nested too deeply') from error
    # A large file's depth is left to the readers: they look into the levels that they know.
    if len(text) < 1 << 22 and _depth(content) > MAX_NESTING:
        raise ValueError('it is nested too deeply')
    return content


def _depth(content: Any) -> int:
    level, depth = [content], 0
    while level and depth <= MAX_NESTING:
        level = [inner for one in level if isinstance(one, (dict, list))
                 for inner in (one.values() if isinstance(one, dict) else one)]
        depth += 1
    return depth


def read_json_object(path: Path, needs: Iterable[str] = (), *, remedy: str) -> dict[str, Any]:
    """A JSON file that holds an object with the keys ``needs``.

    Raises:
        UsageError: it is missing, damaged or something else; the message ends with ``remedy``.
    """
    try:
        content = parse_json(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError('it is not a JSON object')
        if lacking := [key for key in needs if key not in content]:
            raise ValueError(f'it has no {", ".join(lacking)}')
    except OSError as error:
        raise UsageError(f'{path} cannot be read ({error.strerror}); {remedy}') from error
    except ValueError as error:
        raise UsageError(f'{path} is damaged ({error}); {remedy}') from error
    return content


def json_object(path: Path) -> dict[str, Any] | None:
    """The object that a JSON file holds; None if the file is missing, damaged or something else."""
    with suppress(UsageError):
        return read_json_object(path, remedy='')
    return None


def unpacked_size(path: Path) -> int | None:
    """The bytes that the members of a zip file declare, in total; None if it is not a zip file.
    Archives of arrays are not compressed: one that declares more was made to fill memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return None


def write_json(path: Path, content: Any, *, shared: bool = False) -> None:
    """Write ``content`` as readable JSON, atomically; numbers that JSON does not have (NaN and
    infinities) as null. Names of files that are not UTF-8 are written in escapes, from which they
    read back as they were. ``shared`` is that of :func:`write_atomically`."""
    text = json.dumps(without_nan(content), indent=2, ensure_ascii=False, allow_nan=False) + '\n'
    if shared:
        write_atomically(path, text.encode(errors='backslashreplace'), shared=True)
    else:
        write_text(path, text, errors='backslashreplace')


def without_nan(content: Any) -> Any:
    """``content`` with None in place of every NaN and infinity."""
    if isinstance(content, Mapping):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


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
