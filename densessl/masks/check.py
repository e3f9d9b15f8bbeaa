"""Verifying a mask store: whether every image has a whole mask of its own size."""
from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from densessl.images.image_list import UnreadableImage
from densessl.masks.find import generator_of
from densessl.masks.generator import MaskGenerator
from densessl.masks.metadata import SKIPPED
from densessl.masks.record import RECORD, has_changed, read_record
from densessl.masks.store import Masks
from densessl.progress import Progress


def check_masks(masks: Masks, *, workers: int = 1, shard: tuple[int, int] = (0, 1),
                progress: bool = True) -> Iterator[tuple[str, str]]:
    """Check the mask of every image as training needs it: a PNG label map of the size at which
    the image is displayed, with labels 0..n-1 that all occur, made of the image as it is
    now.

    Args:
        masks: of the images that should have one; those listed as skipped need none.
        workers: threads; decoding a PNG leaves the others running.
        shard: (I, N): look at every Nth image from the Ith (0 ≤ I < N).

    Yields:
        (name, what is wrong), for each image with something wrong.
    """
    images, skipped = masks.images, masks.skipped()
    positions = range(shard[0], len(images), shard[1])
    recorded = read_record(masks.root / RECORD, images, positions)
    generator = generator_of(masks.info)

    def look(k: int) -> str | None:
        return _problem(masks, positions[k], skipped, recorded[k], generator)

    with Progress('checked', len(positions), enabled=progress) as bar, \
            ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(positions), 256):     # a million futures would fill the memory
            some = range(start, min(start + 256, len(positions)))
            for k, problem in zip(some, pool.map(look, some), strict=True):
                if problem:
                    yield images.name(positions[k]), problem
            bar.update(some.stop)


def _problem(masks: Masks, i: int, skipped: dict[str, str], recorded: np.void,
             generator: MaskGenerator | None) -> str | None:
    images = masks.images
    if not masks.has(i):
        return None if images.name(i) in skipped else f'no mask, and {SKIPPED} does not say why'
    try:
        size = images.size(i)
    except UnreadableImage as error:
        return f'the image of the mask cannot be read: {error.reason}'
    if has_changed(images, i, recorded, generator):
        return 'the image, or what its regions are from, has changed since its mask was made'
    for which in range(masks.maps):
        try:
            labels = masks.read(i, which)
        except UnreadableImage as error:
            return str(error)
        if labels.shape != size:
            return (f'{masks.where(i, which)} is {labels.shape[1]}×{labels.shape[0]}, '
                    f'the image {size[1]}×{size[0]}')
        unused = np.flatnonzero(np.bincount(labels.ravel()) == 0)
        if len(unused):
            return (f'{masks.where(i, which)} has labels up to {labels.max()} but none '
                    f'{unused[0]}')
    return None
