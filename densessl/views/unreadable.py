"""Images that cannot be read while training: named once, listed for the end, too many stop the run.

Loader workers are processes of their own, and a run may be resumed, so what is known is kept in a
file: a line of JSON for each image, ``[name, reason]``.
"""
from __future__ import annotations

import json
import math
import os
import sys
from contextlib import suppress
from pathlib import Path

from densessl.bounds import Share, check_value
from densessl.errors import RunFailed
from densessl.files.writing import writing
from densessl.images.image_list import ImageList
from densessl.pixels.decode import UnreadableImage

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
        check_value('max_unreadable', share, Share)
        self.total, self.share, self.path = total, share, path
        self._known: dict[str, str] = {}

    def begin(self, images: ImageList, *, resume: bool) -> None:
        """Forget what an earlier run listed, except, of one that is resumed, the images that still
        cannot be read: others were mended since."""
        known = self.listed() if resume else {}
        self.path.unlink(missing_ok=True)
        for i in range(len(images)) if known else ():
            if (name := images.name(i)) in known:
                try:
                    images.read(i)
                except UnreadableImage as error:
                    self._append(name, error.reason)

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
        if len(known) > max(1, self.share * self.total + 1e-9) or len(known) >= self.total:
            raise RunFailed(self._too_many(known))

    def listed(self) -> dict[str, str]:
        """Names and reasons of all that are known of."""
        if not (self.path and self.path.exists()):
            return dict(self._known)
        known: dict[str, str] = {}
        for line in self.path.read_bytes().split(b'\n'):
            with suppress(ValueError, TypeError):   # what a kill cut off, or an editor wrote
                name, reason = json.loads(line)
                known[str(name)] = str(reason)
        return known

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
        line = json.dumps([name, reason]).encode() + b'\n'       # ASCII, whatever the name
        with writing(self.path), open(self.path, 'ab+', buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            cut = file.read() not in (b'', b'\n')       # by a kill
            file.write(b'\n' * cut + line)

    def _too_many(self, known: dict[str, str]) -> str:
        if len(known) >= self.total:
            return f'{self.said()}: no image is left'
        enough = min(1.0, max(0.05, math.ceil(200 * len(known) / self.total) / 100))
        return (f'{self.said()}, more than max_unreadable={self.share:g} allows: mend them or take '
                f'them out of the data, or allow more (--cfg-options max_unreadable={enough:g})')
