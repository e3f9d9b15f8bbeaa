"""Files from anywhere, opened without a surprise."""
from __future__ import annotations

import errno
import os
import stat
import zipfile
from pathlib import Path
from typing import BinaryIO


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


def unpacked_size(path: Path) -> int | None:
    """The bytes that the members of a zip file declare, in total; None if it is not a zip file.
    Archives of arrays are not compressed: one that declares more was made to fill memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return None
