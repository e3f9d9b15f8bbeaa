"""Images that cannot be read while training: named once, listed for the end, too many stop the run.

Loader workers are processes of their own, and a run may be resumed, so what is known is kept in a
file: a line of JSON for each image, ``[name, reason]``.
"""
from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from densessl.data.decode import UnreadableImage
from densessl.errors import RunFailed, UsageError

UNREADABLE = 'unreadable.txt'


class UnreadableImages:
    """The unreadable ones among ``total`` images.

    Args:
        share: how many there may be, of all: 0 to 1. One may always be.
        path: where they are listed for all processes of a run; in this process alone if None.

    Raises:
        UsageError: ``share`` is not a number from 0 to 1.
    """

    def __init__(self, total: int, share: float = 1.0, path: Path | None = None) -> None:
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise UsageError(f'max_unreadable must be a share of the images, 0 to 1, not {share!r}')
        self.total, self.share, self.path = total, share, path
        self._known: dict[str, str] = {}

    def note(self, name: str, error: UnreadableImage) -> None:
        """Name an image that cannot be read, once.

        Raises:
            RunFailed: there are more of them than may be.
        """
        if name in self._known:
            return
        known = self.listed()
        if name not in known:
            print(f'densessl: {error}; the next image takes its place', file=sys.stderr)
            known[name] = error.reason
            self._append(name, error.reason)
        self._known = known
        if len(known) > max(1, int(self.share * self.total)) or len(known) >= self.total:
            raise RunFailed(self._too_many(known))

    def listed(self) -> dict[str, str]:
        """Names and reasons of all that are known of."""
        if not (self.path and self.path.exists()):
            return dict(self._known)
        lines = self.path.read_text(encoding='ascii').split('\n')[:-1]    # the last may be cut off
        return dict(json.loads(line) for line in lines if line)

    def said(self) -> str:
        """How many there are, and the first; empty if there is none."""
        known = self.listed()
        if not known:
            return ''
        name, reason = next(iter(known.items()))
        others = f', and {len(known) - 1} more' if len(known) > 1 else ''
        where = f' (listed in {self.path})' if self.path else ''
        return (f'{len(known)} of {self.total} images cannot be read: {name} ({reason})'
                f'{others}{where}')

    def _append(self, name: str, reason: str) -> None:
        if self.path is None:
            return
        line = json.dumps([name, reason]) + '\n'        # ASCII, whatever the name
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise RunFailed(f'cannot write {self.path}: {error.strerror}') from error
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def _too_many(self, known: dict[str, str]) -> str:
        if len(known) >= self.total:
            return f'{self.said()}: none is left'
        return (f'{self.said()}, more than max_unreadable={self.share:g} allows: mend them or take '
                f'them out of the data, or allow more (--cfg-options max_unreadable=0.05)')
