"""The data set of views and its loader."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from densessl.data.collate import collate
from densessl.data.images import ImageList, UnreadableImage, open_image
from densessl.data.masks import MaskStore
from densessl.data.sampler import Position, PositionSampler
from densessl.data.views import AugmentedView, cut_views, draw_views
from densessl.data.workers import prepare_worker
from densessl.errors import RunFailed


class ViewDataset(Dataset):
    """Images (and masks) as augmented views; a sample depends on (seed, position) alone.

    Args:
        images: the unlabelled images.
        store: their region masks, or None.
        views: what each view draws.
        uniforms: how many uniform numbers each view carries for the method.
        labels: (N,) class labels of the images, or None.
    """

    metainfo: ClassVar[dict[str, Any]] = {}   # mmengine asks every data set for it

    def __init__(self, images: ImageList, store: MaskStore | None, views: Sequence[AugmentedView],
                 *, seed: int = 0, uniforms: int = 64, labels: np.ndarray | None = None) -> None:
        self.images, self.store, self.views = images, store, list(views)
        self.seed, self.uniforms, self.labels = seed, uniforms, labels
        self.shared: list[torch.Tensor] = []     # the names, once a worker has been spawned

    def __getstate__(self) -> dict[str, Any]:
        """For a worker that is not forked: the names travel in shared memory, not as a copy each.
        A forked worker shares them anyway."""
        if not self.shared:
            self.shared = [torch.from_numpy(array.copy()).share_memory_()
                           for array in self.images.buffers()]
            self._attach()
        without = self.images.over(np.zeros(0, np.uint8), np.zeros(1, np.int64))
        return {**vars(self), 'images': without}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._attach()

    def _attach(self) -> None:
        self.images = self.images.over(*(tensor.numpy() for tensor in self.shared))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: Position) -> dict[str, Any]:
        return self.sample(position)[1]

    def sample(self, position: Position) -> tuple[int, dict[str, Any]]:
        """Which image the sample at ``position`` is of, and the sample. A broken image is replaced
        by the next in the list, so that one among a million stops no run and the same run meets
        the same pixels again."""
        n, index = position
        for offset in range(min(8, len(self.images))):
            i = (index + offset) % len(self.images)
            try:
                sample = self._sample(n, i)
            except UnreadableImage as error:
                print(f'densessl: {error}; the next image takes its place', file=sys.stderr)
                continue
            if self.labels is not None:
                sample['target'] = [self.labels[i]] * len(self.views)
            return i, sample
        raise RunFailed(f'8 images in a row cannot be read, from {self.images.path(index)} on')

    def draw(self, n: int) -> tuple[np.random.Generator, int]:
        """The generator of the sample at position ``n``, and which of its label maps it takes."""
        rng = np.random.default_rng((self.seed, 1, n))   # 1: apart from the sampler's streams
        maps = self.store.maps if self.store else 1
        return rng, int(rng.integers(maps)) if maps > 1 else 0

    def _sample(self, n: int, i: int) -> dict[str, list[np.ndarray]]:
        """Image ``i`` with the random numbers of position ``n``: everything is drawn before a
        pixel is decoded, so that no more than the crops need is."""
        rng, which = self.draw(n)
        stored = open_image(self.images.path(i))
        drawn = draw_views(self.views, rng, *stored.size, self.uniforms)
        reduction = min(each.view.reduction(each.box) for each in drawn) if stored.reducible else 1
        image = stored.pixels(reduction)
        mask = self._mask(i, which, stored.size) if self.store else None
        return cut_views(drawn, image, mask, reduction)

    def _mask(self, i: int, which: int, size: tuple[int, int]) -> np.ndarray:
        """Label map ``which`` of image ``i``; RunFailed if it is missing, damaged or not of
        ``size``."""
        name = self.images.name(i)
        try:
            mask = self.store.read(name, which)
        except UnreadableImage as error:
            raise RunFailed(f'{error}; delete the mask and make it again') from error
        if mask.shape != size:
            raise RunFailed(
                f'mask {self.store.path(name, which)} is {mask.shape[1]}×{mask.shape[0]} but its '
                f'image is {size[1]}×{size[0]}: the image has changed since; delete the mask and '
                f'make it again')
        return mask


def build_loader(dataset: ViewDataset, *, batch_size: int, num_workers: int, rank: int = 0,
                 world_size: int = 1, pin_memory: bool = False) -> DataLoader:
    """A loader over the infinite sequence of positions; ``batch_size`` is this rank's."""
    sampler = PositionSampler(len(dataset), batch_size, seed=dataset.seed, rank=rank,
                              world_size=world_size)
    return DataLoader(dataset, batch_size, sampler=sampler, num_workers=num_workers,
                      collate_fn=collate, pin_memory=pin_memory,
                      persistent_workers=num_workers > 0,
                      prefetch_factor=4 if num_workers else None, worker_init_fn=prepare_worker)
