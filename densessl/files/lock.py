"""One process at a time in a folder: a file that beats while its process lives, on any file system.

Two runs that would fill the same folder find each other by it, and the ranks of a run that wait
for a folder to be filled see by it that somebody is at work, or why nobody is any more.
"""
from __future__ import annotations

import json
import os
import secrets
import socket
import sys
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

from densessl.errors import UsageError
from densessl.files.folders import require_work_folder
from densessl.files.json_files import parse_json
from densessl.files.writing import process_lives

BEAT = 5.0              # seconds between two beats
PATIENCE = 60.0         # seconds without a beat after which the holder is taken for dead
GRACE = 5.0             # seconds that a run of this machine may take to end
RUNNING = '.running'    # the lock of a work folder


class BeingBuilt(UsageError):
    """Another live process holds the lock."""


class FolderLock:
    """Hold the file ``path`` against other processes; subclasses say of what and with which words.

    A holder that was killed is recognized: at once on the same machine, else after ``PATIENCE``
    seconds without a beat.

    Raises:
        BeingBuilt: another live process is at it.
    """

    def __init__(self, path: Path, busy: str) -> None:
        self.path, self.busy = path, busy
        self._content = ''
        self._process = 0           # what is forked meanwhile does not hold it
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> FolderLock:
        self._process = os.getpid()
        self._content = json.dumps({**_process(), 'token': secrets.token_hex(8)})
        try:
            if not self._create():
                if self._is_held():
                    raise BeingBuilt(self.busy)
                # Of several that find it dead at the same time, the last to write gets it.
                self.path.write_text(self._content)
                time.sleep(0.3)
                if self.path.read_text() != self._content:
                    raise BeingBuilt(self.busy)
        except OSError as error:
            raise UsageError(f'cannot write {self.path}: {error.strerror}') from error
        self._thread.start()
        return self

    def _create(self) -> bool:
        try:
            with self.path.open('x') as file:
                file.write(self._content)
        except FileExistsError:
            return False
        return True

    def _is_held(self) -> bool:
        return is_held(self.path)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if os.getpid() != self._process:
            return
        self._stop.set()
        self._thread.join()
        self._release(error)

    def _release(self, error: BaseException | None) -> None:
        """Remove the file, unless another process took it over."""
        try:
            if self.path.read_text() == self._content:
                self.path.unlink()
        except OSError:         # the folder was deleted meanwhile
            return

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            try:
                os.utime(self.path)
            except OSError:         # the folder was deleted under the build, which will say so
                return


class BuildLock(FolderLock):
    """Hold ``folder/.building-I-of-N`` while building shard (I, N) of ``folder``.

    The file is removed on success; on failure it stays and says why.
    """

    def __init__(self, folder: Path, shard: tuple[int, int] = (0, 1)) -> None:
        path = lock_path(folder, shard)
        super().__init__(path, f'{folder} is being built by another process ({path.name} says '
                               f'which)')

    def _release(self, error: BaseException | None) -> None:
        if error is None:
            super()._release(error)
            return
        reason = str(error) or ('interrupted' if isinstance(error, KeyboardInterrupt)
                                else type(error).__name__)
        try:
            self.path.write_text(json.dumps({'failed': reason}))
        except OSError:     # a full disk, say: the error on its way is what matters
            return


class RunLock(FolderLock):
    """Hold the work folder of a run, which is made if it is missing, and removed again if it stays
    empty.

    Args:
        kind: what runs in it.
        option: what names the folder on the command line.

    Raises:
        BeingBuilt: another run is at work in it.
        UsageError: it cannot be made or written to.
    """

    def __init__(self, folder: Path, kind: str = 'run', option: str = '--work-dir') -> None:
        super().__init__(folder / RUNNING, f'another {kind} is at work in {folder} ({RUNNING} says '
                         f'which); wait for it, or choose another {option}')
        self.option = option
        self._made: list[Path] = []     # the folder first, then its parents

    def __enter__(self) -> RunLock:
        folder = self.path.parent
        require_work_folder(folder, self.option)
        self._made = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f'{self.option} {folder} cannot be made: {error.strerror}') from error
        try:
            super().__enter__()
        except UsageError:
            self._remove_empty()
            raise
        return self

    def _is_held(self) -> bool:
        """A run that was killed a moment ago may still be ending."""
        deadline = time.monotonic() + GRACE
        lives = _lives((look(self.path) or (0, {}))[1])
        if lives is None:
            print(f'{self.path} is of another machine or an earlier start of this one: waiting up '
                  f'to {PATIENCE:.0f} s for a sign of life', file=sys.stderr)
        while is_held(self.path):
            if time.monotonic() > deadline or not lives:
                return True
            time.sleep(0.1)
        return False

    def _release(self, error: BaseException | None) -> None:
        super()._release(error)
        self._remove_empty()

    def _remove_empty(self) -> None:
        for folder in self._made:
            try:
                folder.rmdir()
            except OSError:     # something is in it
                return


def run_lock(folder: Path, *, is_holder: bool) -> AbstractContextManager[Any]:
    """Hold ``folder`` if this process is the one of the run that does (rank 0)."""
    return RunLock(folder) if is_holder else nullcontext()


def lock_path(folder: Path, shard: tuple[int, int] = (0, 1)) -> Path:
    """The lock of shard (I, N) of ``folder``."""
    return folder / f'.building-{shard[0]}-of-{shard[1]}'


def look(path: Path) -> tuple[int, dict[str, Any]] | None:
    """When the lock at ``path`` beat last (ns, of the file's own clock) and what it says; None if
    there is none."""
    try:
        with path.open() as file:       # not stat: NFS refreshes its cache when a file is opened
            said = parse_json(file.read() or '{}')
            beat = os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return None
    except ValueError:                  # cut short by a full disk, say: nobody can be asked
        return path.stat().st_mtime_ns if path.exists() else 0, {}
    return beat, said if isinstance(said, dict) else {}


def is_held(path: Path) -> bool:
    """Whether the process that wrote the lock lives; waits for a beat if it cannot be asked."""
    first = look(path)
    if first is None or 'failed' in first[1]:
        return False
    lives = _lives(first[1])
    if lives is not None:
        return lives
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        now = look(path)
        if now is None or 'failed' in now[1]:
            return False
        if now != first:
            return True
        time.sleep(0.2)
    return False


def _process() -> dict[str, Any]:
    """What tells this process from any other."""
    return {'host': socket.gethostname(), 'machine': _machine(), 'pid': os.getpid(),
            'started': _started(os.getpid())}


def _machine() -> str | None:
    """What process numbers are valid in: this start of this machine, and a container's own
    numbers. None where the system does not say."""
    try:
        return (Path('/proc/sys/kernel/random/boot_id').read_text().strip() + ' '
                + os.readlink('/proc/self/ns/pid'))
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When a process started, in the system's ticks; '' if it is dead or only waited for, None
    where the system does not say."""
    if not Path('/proc/self/stat').exists():
        return None
    try:
        state, *fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    except OSError:
        return ''
    return '' if state in 'ZX' else fields[18]


def _lives(holder: dict[str, Any]) -> bool | None:
    """Whether the process that wrote a lock lives; None if that cannot be told from here."""
    pid, machine = holder.get('pid'), holder.get('machine')
    if not isinstance(pid, int) or holder.get('host') != socket.gethostname():
        return None
    if machine and machine == _machine():
        return _started(pid) == holder.get('started')
    if machine:
        return None
    return None if process_lives(pid) else False
