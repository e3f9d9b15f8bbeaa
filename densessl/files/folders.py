"""Folders for what is kept: the work folder of a run, and the cache."""
from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from densessl.errors import UsageError, shown


def cache_root() -> Path:
    """The folder of what can be made again: ``$DENSESSL_CACHE``, else ``$XDG_CACHE_HOME/densessl``,
    else ``~/.cache/densessl``. It need not exist."""
    default = Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache') / 'densessl'
    return Path(os.environ.get('DENSESSL_CACHE') or default).expanduser().absolute()


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


def require_work_folder(folder: Path, option: str = '--work-dir') -> None:
    """Raise UsageError unless ``folder``, which ``option`` names, can be written to, or made;
    leaves no trace."""
    reason = _why_unwritable(folder)
    if reason:
        raise UsageError(f'{option} {shown(str(folder))} {reason}')


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
