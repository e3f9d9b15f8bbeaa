"""Writing files so that an interrupted write leaves what was there, and where kept work goes."""
from __future__ import annotations

import hashlib
import json
import math
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from densessl.environment import cannot_write, writing
from densessl.errors import UsageError, shown


def cache_root() -> Path:
    """The folder of what can be made again: ``$DENSESSL_CACHE``, else ``$XDG_CACHE_HOME/densessl``,
    else ``~/.cache/densessl``. It need not exist."""
    default = Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache') / 'densessl'
    return Path(os.environ.get('DENSESSL_CACHE') or default).expanduser().absolute()


def work_folder(given: str | Path | None, default: str) -> Path:
    """The folder that ``--work-dir`` names, or the default one if it was not given.

    Raises:
        UsageError: it is empty, which would mean the present folder or the default.
    """
    if given is not None and not str(given).strip():
        raise UsageError("--work-dir '': name a folder, or leave it out")
    return Path(given or default)


def require_work_folder(folder: Path) -> None:
    """Raise UsageError unless ``folder`` can be written to, or made; leaves no trace."""
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    except (OSError, ValueError) as error:      # a name that no system takes
        raise UsageError(f'--work-dir {shown(str(folder))} cannot be a folder: {error.args[-1]}'
                         ) from error
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
    """A path to write to that becomes ``path`` only when the block ends well.

    Raises:
        RunFailed, UsageError: it cannot be written; the message names ``path`` and says why.
    """
    unfinished = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        with writing(path):
            yield unfinished
            os.replace(unfinished, path)
    finally:
        with suppress(OSError):     # what went wrong before is what counts
            unfinished.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as readable JSON, atomically; numbers that JSON does not have (NaN and
    infinities) as null."""
    text = json.dumps(without_nan(content), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_path(path) as unfinished:
        unfinished.write_text(text + '\n')


def without_nan(content: Any) -> Any:
    """``content`` with None in the place of every NaN and infinity."""
    if isinstance(content, Mapping):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


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
        raise cannot_write(path, error) from error
