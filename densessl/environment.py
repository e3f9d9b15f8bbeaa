"""Errors of the machine: a full disk, a folder that may not be written, too little memory, another
process of the run that has ended. Each becomes one line that says what to do; so does what else is
raised where something is built."""
from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from densessl.errors import RunFailed, UsageError

FULL = {
    errno.ENOSPC: 'the disk is full: free some space',
    errno.EDQUOT: 'the disk quota is used up: free some space',
    errno.EFBIG: 'a file may not become that large here (ulimit -f, or the file system): raise the '
                 'limit, or choose a folder of another file system',
    errno.EIO: 'the disk failed: look at the system log, and choose a folder of another disk'}
REFUSED = {     # the user has named a place that cannot be used
    errno.EACCES: 'permission denied: choose another place, or ask for access',
    errno.EPERM: 'this is not permitted: choose another place, or ask for permission',
    errno.EROFS: 'the file system is read-only: choose another place',
    errno.ENAMETOOLONG: 'the name is too long: choose a shorter one',
    errno.ENOENT: 'there is no such file or folder',
    errno.ENOTDIR: 'a part of the path is a file, not a folder',
    errno.EISDIR: 'that is a folder, not a file'}
OTHERS = {
    errno.EMFILE: 'too many files are open: raise ulimit -n, or take fewer workers',
    errno.ENFILE: 'too many files are open on this machine',
    errno.ENOMEM: 'the memory is full: take a smaller batch or fewer workers',
    errno.EAGAIN: 'the system allows no more processes or threads: raise ulimit -u, or take fewer '
                  'workers'}
MEMORY = 'take a smaller batch, smaller images or fewer workers'
_PEER = re.compile(r'connection (was )?(closed|reset) by (remote )?peer|connection refused|'
                   r'broken pipe|timed out (after )?waiting|no progress|remote process exited',
                   re.IGNORECASE)
_WRITER = re.compile(r'PytorchStreamWriter failed|unexpected pos|file write failed')
_WORKER = re.compile(r'DataLoader worker .*(killed by signal|exited unexpectedly)')
_ALLOCATOR = re.compile(r'DefaultCPUAllocator|out of memory|std::bad_alloc|'
                        r'unable to allocate|cannot allocate memory|_ALLOC_FAILED', re.IGNORECASE)


def is_of_machine(error: BaseException) -> bool:
    """Whether an error says that the machine ran out of memory, disk or files."""
    return (isinstance(error, MemoryError) or is_out_of_memory(error)
            or (isinstance(error, OSError) and error.errno in {**FULL, **OTHERS}))


def explain(error: BaseException) -> UsageError | RunFailed | None:
    """The one line for an error of the machine; None for any other error."""
    if isinstance(error, OSError) and error.errno is not None:
        place = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ''
        named = f'{shortened(place)}: ' if place else ''
        if error.errno in REFUSED:
            return UsageError(f'{named}{REFUSED[error.errno]}')
        told = {**FULL, **OTHERS}.get(error.errno)
        return RunFailed(f'{named}{told or error.strerror or error}')
    if is_out_of_memory(error):
        asked = re.search(r'allocate (\d+) bytes|[Tt]ried to allocate ([\d.]+ \w+)', str(error))
        much = f' ({asked[0]})' if asked else ''
        return RunFailed(f'there is not enough memory{much}: {MEMORY}')
    if is_lost_peer(error):
        return RunFailed('another process of this run has ended, so this one cannot continue: '
                         'its own last line says why')
    if isinstance(error, RuntimeError) and _WORKER.search(str(error)):
        return RunFailed(f'the system ended a loader worker, usually because memory or shared '
                         f'memory (/dev/shm) ran out: {MEMORY}')
    if isinstance(error, RuntimeError) and is_failed_write(error):
        return RunFailed(f'a file could not be written completely: {FULL[errno.ENOSPC]}')
    return None


@contextmanager
def saying(last: object) -> Iterator[None]:
    """Within, an error of the machine, or a run that failed, ends with what is kept.

    Args:
        last: called when it is needed; gives the words, or nothing.
    """
    try:
        yield
    except UsageError:
        raise
    except (RunFailed, OSError, MemoryError, RuntimeError) as error:
        known = error if isinstance(error, RunFailed) else explain(error)
        kept = last() if known is not None else ''
        if not kept:
            raise
        raise type(known)(f'{known}; {kept}') from error


@contextmanager
def building(part: str, of: str = ' of the config') -> Iterator[None]:
    """Within (or within a function that this decorates), an error means that ``part`` of the
    config cannot be built.

    Args:
        of: what follows ``part`` in the message.

    Raises:
        UsageError: instead of what was raised; the message has its last line.
    """
    try:
        yield
    except (UsageError, RunFailed):
        raise
    except (Exception, SystemExit) as error:     # libraries raise any kind for a wrong value
        if is_of_machine(error):
            raise
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        last = (text.strip().splitlines() or [''])[-1].partition(' Please check')[0].strip()
        raise UsageError(f'{part}{of} cannot be built: {type(error).__name__}: {last}'
                         ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the memory, the host's or a device's, is full."""
    return isinstance(error, MemoryError) or type(error).__name__ == 'OutOfMemoryError' or (
        isinstance(error, RuntimeError) and bool(_ALLOCATOR.search(str(error))))


def is_lost_peer(error: BaseException) -> bool:
    """Whether a collective operation failed because another process no longer answers."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    text = str(error)
    of_group = 'DistBackendError' in kinds or 'DistNetworkError' in kinds or (
        'RuntimeError' in kinds and ('gloo' in text.lower() or 'nccl' in text.lower()))
    return of_group and ('DistBackendError' in kinds or bool(_PEER.search(text)))


def is_failed_write(error: OSError | RuntimeError) -> bool:
    """Whether an error says that a file was not written, or not completely."""
    return isinstance(error, OSError) or bool(_WRITER.search(str(error)))


def shortened(path: str) -> str:
    """A path as messages name it: a long one without its middle."""
    return path if len(path) <= 160 else f'{path[:80]}…{path[-60:]}'
