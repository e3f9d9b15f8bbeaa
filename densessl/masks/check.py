"""Verifying a mask store: whether every image has a whole mask of its own size."""
from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from densessl.images.image_list import ImageList, UnreadableImage
from densessl.masks.find import Masks
from densessl.masks.metadata import SKIPPED
from densessl.masks.record import RECORD, has_changed, read_record
from densessl.progress import Progress


def check_masks(images: ImageList, store: Masks, *, workers: int = 1,
                shard: tuple[int, int] = (0, 1), progress: bool = True
                ) -> Iterator[tuple[str, str]]:
    """Look at the mask of every image, as it is needed in training: there, a PNG label map, of
    the size at which the image is displayed, with labels 0..n-1 that all occur; and whether the
    image is still the one that it was made of.

    Args:
        images: what should have masks; those listed as skipped need none.
        workers: threads; decoding a PNG leaves the others running.
        shard: (I, N): look at every Nth image from the Ith (0 ≤ I < N).

    Yields:
        (name, what is wrong), for each image with something wrong.
    """
    skipped = store.skipped()
    positions = range(shard[0], len(images), shard[1])
    recorded = read_record(store.root / RECORD, images, positions)

    def look(k: int) -> str | None:
        return _problem(images, positions[k], store, skipped, recorded[k])

    with Progress('checked', len(positions), enabled=progress) as bar, \
            ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(positions), 256):     # a million futures would fill the memory
            some = range(start, min(start + 256, len(positions)))
            for k, problem in zip(some, pool.map(look, some), strict=True):
                if problem:
                    yield images.name(positions[k]), problem
            bar.update(some.stop)


def _problem(images: ImageList, i: int, store: Masks, skipped: dict[str, str], recorded: np.void
             ) -> str | None:
    name = images.name(i)
    if not store.has_for(images, i):
        return None if name in skipped else f'no mask, and {SKIPPED} does not say why'
    try:
        size = images.size(i)
    except UnreadableImage as error:
        return f'the image of the mask cannot be read: {error.reason}'
    if has_changed(images, i, recorded):
        return 'the image has changed since its mask was made'
    for which in range(store.maps):
        try:
            labels = store.read_for(images, i, which)
        except UnreadableImage as error:
            return str(error)
        if labels.shape != size:
            return (f'{store.where_for(images, i, which)} is {labels.shape[1]}×{labels.shape[0]}, '
                    f'the image {size[1]}×{size[0]}')
        unused = np.flatnonzero(np.bincount(labels.ravel()) == 0)
        if len(unused):
            return (f'{store.where_for(images, i, which)} has labels up to {labels.max()} but none '
                    f'{unused[0]}')
    return None
