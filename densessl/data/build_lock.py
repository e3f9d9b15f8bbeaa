"""One builder at a time: a file that beats while its process lives, on any file system.

Two runs that would fill the same folder find each other by it, and the ranks of a run that wait
for a folder to be filled see by it that somebody is at work, or why nobody is any more.
"""
from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from densessl.errors import UsageError
from densessl.files import parse_json

BEAT = 5.0              # seconds between two beats
PATIENCE = 60.0         # seconds without a beat after which the holder is taken for dead


class BeingBuilt(UsageError):
    """Another live process holds the lock."""


class BuildLock:
    """Hold ``folder/.building-I-of-N`` while building shard (I, N) of ``folder``.

    The file is removed on success; on failure it stays and says why. A holder that was killed is
    recognized: at once on the same machine, else after ``PATIENCE`` seconds without a beat.

    Raises:
        BeingBuilt: another live process is at it.
    """

    def __init__(self, folder: Path, shard: tuple[int, int] = (0, 1)) -> None:
        self.path = lock_path(folder, shard)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> BuildLock:
        content = json.dumps({'host': socket.gethostname(), 'pid': os.getpid()})
        try:
            if not self._create(content):
                if is_held(self.path):
                    raise BeingBuilt(f'{self.path.parent} is being built by another process '
                                     f'({self.path.name} says which)')
                # Of several that find it dead at the same time the last to write has it.
                self.path.write_text(content)
                time.sleep(0.3)
                if self.path.read_text() != content:
                    raise BeingBuilt(f'{self.path.parent} is being built by another process')
        except OSError as error:
            raise UsageError(f'cannot write {self.path}: {error.strerror}') from error
        self._thread.start()
        return self

    def _create(self, content: str) -> bool:
        try:
            with self.path.open('x') as file:
                file.write(content)
        except FileExistsError:
            return False
        return True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if error is None:
            self.path.unlink(missing_ok=True)
            return
        reason = str(error) or ('interrupted' if kind is KeyboardInterrupt else kind.__name__)
        try:
            self.path.write_text(json.dumps({'failed': reason}))
        except OSError:     # a full disk, say: the error on its way is what matters
            return

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            try:
                os.utime(self.path)
            except OSError:         # the folder was deleted under the build, which will say so
                return


def lock_path(folder: Path, shard: tuple[int, int] = (0, 1)) -> Path:
    """The lock of shard (I, N) of ``folder``."""
    return folder / f'.building-{shard[0]}-of-{shard[1]}'


def look(path: Path) -> tuple[int, dict[str, Any]] | None:
    """When the lock at ``path`` beat last (ns, of the file's own clock) and what it says; None if
    there is none."""
    try:
        with path.open() as file:       # opening, not stat: NFS refreshes its cache on opening
            says = parse_json(file.read() or '{}')
            return os.fstat(file.fileno()).st_mtime_ns, says if isinstance(says, dict) else {}
    except (OSError, ValueError):
        return None


def is_held(path: Path) -> bool:
    """Whether the process that wrote the lock lives; waits for a beat if it cannot be asked."""
    first = look(path)
    if first is None or 'failed' in first[1]:
        return False
    if first[1].get('host') == socket.gethostname() and not _lives(first[1].get('pid', 0)):
        return False
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        now = look(path)
        if now is None or 'failed' in now[1]:
            return False
        if now != first:
            return True
        time.sleep(0.2)
    return False


def _lives(pid: Any) -> bool:
    if type(pid) is not int or not 0 < pid < 1 << 31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass                            # it lives, and is another user's
    return True
