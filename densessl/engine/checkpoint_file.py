"""Checkpoints on the disk: written whole or not at all, and verified before they are used.

What ``torch.save`` writes is a zip archive whose members carry a CRC-32. ``torch.load`` does not
look at it, so a bit that flipped on a disk would be trained on; here it is computed anew before
anything is taken from a file.
"""
from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from densessl.errors import UsageError, escaped
from densessl.files.writing import replacing, write_text

SAVED = 'checkpoint saved: '    # what the log says before the name of one that is in its place
LAST = 'last_checkpoint'        # the file that names the newest, for the libraries' own tools
_NUMBERED = re.compile(r'(iter|epoch)_(\d+)\.pth')
_ZIP = b'PK\x03\x04'
_FOLDER = 0x10          # MS-DOS attribute of a member
_DAMAGE = (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, OSError,
           ValueError, OverflowError, MemoryError, struct.error)


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Save ``content`` atomically, flushed and with a checksum of each member.

    Raises:
        OSError: it could not be written, because the disk is full, say; what was at ``path`` is
            still there.
    """
    with replacing(path) as unfinished, unfinished.open('wb') as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:   # torch's writer hides why it could not write
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def note_newest(folder: str | Path, checkpoint: str | Path) -> None:
    """Name the newest checkpoint of the run in ``folder`` where the libraries' own tools look."""
    write_text(Path(folder) / LAST, str(checkpoint))


def damage(path: Path) -> str:
    """What is wrong with a file that ``torch.save`` wrote, or ``''``. Nothing is found in a file
    without checksums (:func:`has_checksum`)."""
    with path.open('rb') as file:
        begin = file.read(len(_ZIP))
    if not begin:
        return 'it is empty'
    if begin != _ZIP and not _is_zip(path):
        return ''
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if not any(member.CRC for member in members):
                return ''
            broken = archive.testzip() or next((
                # read by torch as a folder: as nothing, whatever the checksum says
                member.filename for member in members
                if member.external_attr & _FOLDER and not member.is_dir()), None)
    except _DAMAGE as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return f'it is cut short or was changed ({reason})'
    return (f'its part {escaped(broken[:100])} does not have the checksum it was written with'
            if broken else '')


def has_checksum(path: Path) -> bool:
    """Whether damage of a file would be noticed: PyTorch's format before 1.6 has no checksums, and
    newer ones can be written without."""
    if not _is_zip(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(member.CRC for member in archive.infolist())


def _is_zip(path: Path) -> bool:
    """Whether a file is a zip archive, damaged or not: Python's own look at it stumbles over what
    some damage makes of its end."""
    try:
        return zipfile.is_zipfile(path)
    except _DAMAGE:
        return True


def require_whole(path: Path) -> None:
    """Refuse a file that was changed since it was written. (An empty file without the name of a
    run's checkpoint never was one; opening it says so.)

    Raises:
        UsageError: it says what is wrong, and which checkpoint beside it could be used.
    """
    of_run = _NUMBERED.fullmatch(path.name)
    wrong = damage(path)
    if wrong and (of_run or path.stat().st_size):
        siblings = [one for one in numbered(path.parent) if of_run and one != path]
        whole = next((one for one in reversed(siblings) if not damage(one)), None)
        raise UsageError(f'{path} is damaged: {wrong}'
                         + (f'; {whole.name} beside it is whole' if whole else ''))


def read_checkpoint(path: str | Path, map_location: Any = 'cpu', *, mmap: bool = False
                    ) -> dict[str, Any]:
    """Read a checkpoint that is whole, without executing anything in it.

    Raises:
        UsageError: no file, a damaged one, or not a checkpoint that loads with
            ``weights_only=True``.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f'no checkpoint {path}')
    require_whole(path)
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True,
                                mmap=mmap and _is_zip(path))
    except Exception as error:   # torch raises many kinds; the file is at fault in each
        raise UsageError(f'{path} is not a checkpoint that loads safely (weights only): '
                         f'{(str(error).splitlines() or [type(error).__name__])[0]}') from error
    if not isinstance(checkpoint, dict):
        raise UsageError(f'{path} holds a {type(checkpoint).__name__}, not a checkpoint')
    return checkpoint


def require_run_state(path: str | Path, content: Mapping[str, Any],
                      needs: Iterable[str] = ('state_dict', 'meta')) -> None:
    """Refuse a file that opens but is not a run's checkpoint.

    Args:
        needs: the dicts that are read from it.

    Raises:
        UsageError: one is not there.
    """
    lacking = [key for key in needs if not isinstance(content.get(key), Mapping)]
    if not lacking and not isinstance(content.get('meta', {}).get('iter', 0), int):
        lacking = ['meta.iter']
    if lacking:
        raise UsageError(f'{path} is not the checkpoint of a run: it has no {", ".join(lacking)}')


def numbered(folder: str | Path) -> list[Path]:
    """The checkpoints of a run in ``folder``, oldest first: those of a number of iterations, or of
    epochs if there are none of iterations."""
    found: dict[str, dict[int, Path]] = {'iter': {}, 'epoch': {}}
    for path in Path(folder).glob('*.pth'):
        match = _NUMBERED.fullmatch(path.name)
        if match and path.is_file():
            found[match[1]][int(match[2])] = path
    of_unit = found['iter'] or found['epoch']
    return [of_unit[number] for number in sorted(of_unit)]


def newest_checkpoint(folder: str | Path) -> Path | None:
    """The newest checkpoint of the run in ``folder``, whole or not, whatever it is called; None if
    there is none."""
    return (_candidates(Path(folder)) or [None])[-1]


def newest_whole(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint in ``folder`` that can be used; None if there is none at all.

    Args:
        say: is told of newer ones that are damaged, a line each.

    Raises:
        UsageError: there are some, and all of them are damaged.
    """
    wrong: list[str] = []
    for path in reversed(_candidates(folder)):
        try:
            require_run_state(path, read_checkpoint(path, mmap=True))
        except UsageError as error:
            wrong.append(str(error).partition('; ')[0])
            continue
        for line in wrong:
            say(f'{line}; using {path.name}, the newest that is whole')
        return path
    if wrong:
        raise UsageError(f'{folder} holds no checkpoint that can be used: {"; ".join(wrong)}')
    return None


def checkpoint_to_resume(folder: Path, say: Callable[[str], None], *, since: float = 0.0,
                         remedy: str = 'start anew in another --work-dir') -> Path | None:
    """The newest checkpoint that can be used of the run in ``folder``; None if that never saved
    one.

    Args:
        say: see :func:`newest_whole`.
        since: when the run began (seconds since 1970); logs from before are of another.
        remedy: how to begin anew.

    Raises:
        UsageError: all checkpoints are damaged, or those that were saved are gone.
    """
    try:
        newest = newest_whole(folder, say)
    except UsageError as error:
        raise UsageError(f'nothing to resume: {error}; put a whole one there, or {remedy}'
                         ) from error
    record = None if newest else _record_of_saving(folder, since)
    if record:
        raise UsageError(f'nothing to resume: {folder} holds no checkpoint, although {record} says '
                         f'that one was saved; put it back, or {remedy}')
    return newest


def _candidates(folder: Path) -> list[Path]:
    """Oldest first: the numbered ones, or by whatever name the record of the last has."""
    found, last = numbered(folder), folder / LAST
    if found or not last.is_file():
        return found
    named = folder / Path(last.read_text(errors='replace').strip()).name
    return [named] if named.is_file() else []


def _record_of_saving(folder: Path, since: float) -> str | None:
    """The name of a file that says that a checkpoint was saved."""
    if (folder / LAST).exists():
        return LAST
    for log in sorted(folder.glob('*/*.log')):
        if log.stat().st_mtime >= since and SAVED in log.read_text(errors='replace'):
            return str(log.relative_to(folder))
    return None
