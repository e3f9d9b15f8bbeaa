"""Reading a stretch of one of many tar files, from any process, thread or worker."""
from __future__ import annotations

import os
from collections.abc import Sequence
from errno import EIO
from functools import lru_cache
from pathlib import Path
from typing import Any

OPEN = 256      # files that a process keeps open at a time


class TarFiles:
    """Tar files by number. A pickled copy opens its own files.

    Reads say where they want to read, so a forked worker may share the files that are open, and
    threads may read at the same time: a file that makes room for another is closed when the last
    reader is done with it.

    Attributes:
        folder: where the files are.
        names: of the files in it.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder, self.names = folder, list(names)
        self._file = lru_cache(OPEN)(self._open)

    def __reduce__(self) -> tuple[Any, ...]:
        return TarFiles, (self.folder, self.names)

    def path(self, number: int) -> Path:
        """Where file ``number`` is."""
        return self.folder / self.names[number]

    def read(self, number: int, offset: int, size: int) -> bytes:
        """``size`` bytes of file ``number`` from ``offset`` on.

        Raises:
            OSError: the file cannot be opened or read, or ends before.
        """
        file = self._file(int(number))
        parts = []
        while size > 0:      # one call gives 2 GB at most
            part = os.pread(file.descriptor, size, offset)
            if not part:
                raise OSError(EIO, f'the shard ends at byte {offset}')
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b''.join(parts)

    def _open(self, number: int) -> _Opened:
        return _Opened(os.open(self.path(number), os.O_RDONLY))


class _Opened:
    """A file that is closed when its last reader is done."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)
