"""Copying images and masks into tar files by a plan."""
from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import BinaryIO

import numpy as np

from densessl.errors import UsageError
from densessl.files.writing import replacing
from densessl.images.image_list import ImageList, UnreadableImage
from densessl.images.tar_index import index, join, written_rows
from densessl.images.tar_layout import BLOCK, header
from densessl.masks.store import Masks
from densessl.progress import Progress
from densessl.shards.plan import Shard, members


def file_name(number: int) -> str:
    """Of shard ``number``."""
    return f'{number:06d}.tar'


class ShardCopy:
    """Threads that each write a shard after the other.

    Args:
        out: the folder of the shards.
        images: their images, and ``masks``; both in ``shards`` by position.
        begun: called before a shard is written.
    """

    def __init__(self, out: Path, images: ImageList, masks: Masks | None, shards: list[Shard],
                 begun: Callable[[], None]) -> None:
        self.out, self.images, self.masks, self.shards = out, images, masks, shards
        self.begun = begun
        self.parts: list[tuple[np.ndarray, ...]] = [()] * len(shards)     # of the index
        self.done = [0] * len(shards)          # images
        self.stop = threading.Event()

    def run(self, workers: int, progress: bool) -> tuple[int, tuple[np.ndarray, ...]]:
        """Write the missing shards; return how many those were, and the index of all."""
        with Progress('images', len(self.images), enabled=progress) as bar, \
                ThreadPoolExecutor(workers) as pool:
            running: set[Future[bool]] = {pool.submit(self._shard, number)
                                          for number in range(len(self.shards))}
            written = 0
            try:
                while running:
                    done, running = wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
                    written += sum(future.result() for future in done)
                    bar.update(sum(self.done))
            finally:
                self.stop.set()              # a thread ends after the image it is at
                pool.shutdown(cancel_futures=True)
        return written, join(self.parts)

    def _shard(self, number: int) -> bool:
        """Write shard ``number`` unless it is there; return whether it was written."""
        kept = self._is_whole(number, self.shards[number].newest)
        if not kept:
            self.begun()
            self._write(number)
            if not self._is_whole(number):
                raise UsageError(f'{self.out / file_name(number)} is not what was planned: an '
                                 f'image or mask has changed; run the same command again')
        self.done[number] = len(self.shards[number].positions)
        return not kept

    def _is_whole(self, number: int, newest: int = 0) -> bool:
        """Whether the shard that is there has the wanted images, each of its size, and was not
        written before ``newest`` (ns); indexes it."""
        shard, path = self.shards[number], self.out / file_name(number)
        try:
            state = os.stat(path)
            if state.st_size != shard.size or state.st_mtime_ns < newest:
                return False
            rows = written_rows(path, number)
            self.parts[number] = index(rows, path)
        except (OSError, UsageError):
            return False
        *_, entries = self.parts[number]
        return ([row[0] for row in rows] == [self.images.name(i) for i in shard.positions]
                and np.array_equal(entries[:, 2::2], shard.sizes))

    def _write(self, number: int) -> None:
        path = self.out / file_name(number)
        try:     # flushed: a whole size must mean whole contents
            with replacing(path) as unfinished, unfinished.open('wb') as file:
                self._fill(file, number)
        except OSError as error:
            raise UsageError(f'cannot write {path}: {error.strerror}') from error

    def _fill(self, file: BinaryIO, number: int) -> None:
        for i in self.shards[number].positions:
            if self.stop.is_set():
                raise KeyboardInterrupt
            for member, which in members(self.images, self.masks, i):
                data = self._data(i, which)
                file.write(header(member, len(data)))
                file.write(data)
                file.write(bytes(-len(data) % BLOCK))
            self.done[number] += 1
        file.write(bytes(max(0, self.shards[number].size - file.tell())))

    def _data(self, i: int, which: int | None) -> bytes:
        try:
            return self.images.data(i) if which is None else self.masks.data(i, which)
        except UnreadableImage as error:
            raise UsageError(f'{error}; it was there a moment ago: run the same command again'
                             ) from error
