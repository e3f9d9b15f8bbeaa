"""The data set of views and its loader."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from densessl.data.images import ImageList, UnreadableImage, read_image
from densessl.data.masks import MaskStore
from densessl.data.sampler import Position, PositionSampler
from densessl.data.views import AugmentedView, make_views
from densessl.data.workers import prepare_worker


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
        n, index = position
        rng, which = self.draw(n)
        i, image, mask = self._read(index, which)
        sample: dict[str, Any] = make_views(self.views, rng, image, mask, self.uniforms)
        if self.labels is not None:
            sample['target'] = [self.labels[i]] * len(self.views)
        return sample

    def draw(self, n: int) -> tuple[np.random.Generator, int]:
        """The generator of the sample at position ``n``, and which of its label maps it takes."""
        rng = np.random.default_rng((self.seed, 1, n))   # 1: apart from the sampler's streams
        maps = self.store.maps if self.store else 1
        return rng, int(rng.integers(maps)) if maps > 1 else 0

    def _read(self, index: int, which: int = 0) -> tuple[int, np.ndarray, np.ndarray | None]:
        """Read an image and label map ``which`` of it; one that cannot be read is replaced by the
        next in the list, so that a broken file among a million stops no run and the same run meets
        the same pixels again."""
        for offset in range(min(8, len(self.images))):
            i = (index + offset) % len(self.images)
            try:
                image = read_image(self.images.path(i))
            except UnreadableImage as error:
                print(f'densessl: {error}; the next image takes its place', file=sys.stderr)
                continue
            if self.store is None:
                return i, image, None
            mask = self.store.read(self.images.name(i), which)
            if mask.shape != image.shape[:2]:
                raise RuntimeError(
                    f'mask {self.store.path(self.images.name(i), which)} is {mask.shape[1]}×'
                    f'{mask.shape[0]} but its image is {image.shape[1]}×{image.shape[0]}: the '
                    f'image has changed since; delete the mask and make it again')
            return i, image, mask
        raise RuntimeError(f'8 images in a row cannot be read, from {self.images.path(index)} on')


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples: a list over views of (B, …) tensors for each key. ``regions`` is one more
    than the largest region id of the batch, known here without asking the device."""
    batch: dict[str, Any] = {
        key: [torch.from_numpy(np.stack(view)) for view in zip(*(s[key] for s in samples),
                                                               strict=True)]
        for key in samples[0]}
    if 'mask' in batch:
        batch['regions'] = 1 + max(int(mask.max()) for mask in batch['mask'])
    return batch


def build_loader(dataset: ViewDataset, *, batch_size: int, num_workers: int, rank: int = 0,
                 world_size: int = 1, pin_memory: bool = False) -> DataLoader:
    """A loader over the infinite sequence of positions; ``batch_size`` is this rank's."""
    sampler = PositionSampler(len(dataset), batch_size, seed=dataset.seed, rank=rank,
                              world_size=world_size)
    return DataLoader(dataset, batch_size, sampler=sampler, num_workers=num_workers,
                      collate_fn=collate, pin_memory=pin_memory,
                      persistent_workers=num_workers > 0,
                      prefetch_factor=4 if num_workers else None, worker_init_fn=prepare_worker)
