"""Writing files so that an interrupted write leaves what was there, and where kept work goes."""
from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from densessl.errors import UsageError


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
    """A path to write to that becomes ``path`` only when the block ends well."""
    unfinished = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as readable JSON, atomically."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, ensure_ascii=False) + '\n')
