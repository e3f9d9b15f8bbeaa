"""Which images go into which tar shard: known from their sizes before a byte is copied."""
from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from densessl.errors import UsageError
from densessl.images.image_list import ImageList, UnreadableImage
from densessl.images.tar_layout import BLOCK, header_size, image_member, mask_member
from densessl.masks.store import Masks
from densessl.progress import Progress

RECORD = 20 * BLOCK         # what tar files are padded to


@dataclass(frozen=True)
class Shard:
    """What goes into one tar file.

    Attributes:
        positions: of its images.
        size: of the file in bytes.
        newest: when the last of its images and masks was written or put in its place (ns).
        sizes: (n, 1 + maps) of each image and its masks in bytes.
    """

    positions: range
    size: int
    newest: int
    sizes: np.ndarray


def members(images: ImageList, masks: Masks | None, i: int) -> Iterator[tuple[str, int | None]]:
    """The members of image ``i`` by name, in their order: which label map each is, None for the
    image."""
    name = images.name(i)
    yield image_member(name), None
    for which in range(masks.maps if masks else 0):
        yield mask_member(name, which, masks.maps), which


def leave_out_unreadable(images: ImageList, masks: Masks | None, workers: int, progress: bool
                         ) -> tuple[ImageList, Masks | None, np.ndarray, dict[str, str]]:
    """Look at the files of all images.

    Returns:
        The images that are there, and their masks; (N, 3 + maps) int64: how many bytes their
        members take in a tar file, when the last of them was written or put in its place (ns), and
        the size of each; the images that are missing or empty, by name, and why.

    Raises:
        UsageError: a mask is missing or empty, or all images are.
    """
    states = np.zeros((len(images), 3 + (masks.maps if masks else 0)), np.int64)
    missing: dict[int, str] = {}

    def look(i: int) -> None:
        try:
            states[i] = _state(images, masks, i)
        except UnreadableImage as error:
            missing[i] = error.reason

    with Progress('found', len(images), enabled=progress) as bar, \
            ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(images), 1024):   # network file systems answer many at a time
            some = range(start, min(start + 1024, len(images)))
            list(pool.map(look, some))
            bar.update(some.stop)
    reasons = {images.name(i): missing[i] for i in sorted(missing)}
    if len(missing) == len(images):
        name, reason = next(iter(reasons.items()))
        raise UsageError(f'none of the {len(images)} images in {images.source} can be read; '
                         f'{name}: {reason}')
    if missing:
        keep = [i for i in range(len(images)) if i not in missing]
        masks = masks.select(keep) if masks else None
        images, states = masks.images if masks else images.select(keep), states[keep]
    return images, masks, states, reasons


def _state(images: ImageList, masks: Masks | None, i: int) -> tuple[int, ...]:
    found = []
    for member, which in members(images, masks, i):
        if which is None:
            size, written = images.stat(i)
            # what is moved here, or copied with its times, has the time of another place
            written = max(written, os.stat(images.path(i)).st_ctime_ns)
        else:
            size, written = _mask_state(masks, i, which)
        found.append((header_size(member) + _padded(size), written, size))
    totals, times, sizes = zip(*found, strict=True)
    return sum(totals), max(times), *sizes


def _mask_state(masks: Masks, i: int, which: int) -> tuple[int, int]:
    try:
        size, written = masks.stat(i, which)
        if not size:
            raise UnreadableImage(masks.where(i, which), 'the file is empty')
    except UnreadableImage as error:
        raise UsageError(f'{error}: run "densessl make_masks {masks.images.source} {masks.root}" '
                         f'again, it makes the masks that are missing') from error
    return size, written


def divide(states: np.ndarray, shard_size: int) -> list[Shard]:
    """Cut a list of images into shards of at most ``shard_size`` bytes, or of one image.

    Args:
        states: as :func:`leave_out_unreadable` returns.
    """
    starts, filled = [0], 0
    for i, size in enumerate(states[:, 0].tolist()):
        if filled and filled + size > shard_size - RECORD:
            starts.append(i)
            filled = 0
        filled += size
    return [Shard(range(start, stop), _padded(int(part[:, 0].sum()) + 2 * BLOCK, RECORD),
                  int(part[:, 1].max()), part[:, 2:])
            for start, stop in zip(starts, [*starts[1:], len(states)], strict=True)
            for part in [states[start:stop]]]


def _padded(size: int, to: int = BLOCK) -> int:
    return -(-size // to) * to
