"""The data set of views and its loader."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from densessl.errors import RunFailed
from densessl.images.image_list import ImageList, UnreadableImage
from densessl.machine.signals import outlive_signals
from densessl.masks.store import Masks
from densessl.views.collate import collate
from densessl.views.sampler import Position, PositionSampler
from densessl.views.unreadable import UnreadableImages
from densessl.views.view import AugmentedView, cut_views, draw_views


class ViewDataset(Dataset):
    """Images (and masks) as augmented views; a sample depends on (seed, position) alone.

    Args:
        images: the unlabelled images.
        masks: their region masks by position, or None.
        views: what each view draws.
        uniforms: how many uniform numbers each view carries for the method.
        labels: (N,) class labels of the images, or None.
        unreadable: what is done about images that cannot be read; by default, all but one may be.
    """

    metainfo: ClassVar[dict[str, Any]] = {}   # mmengine asks every data set for it

    def __init__(self, images: ImageList, masks: Masks | None, views: Sequence[AugmentedView],
                 *, seed: int = 0, uniforms: int = 64, labels: np.ndarray | None = None,
                 unreadable: UnreadableImages | None = None) -> None:
        self.targets: Any = None    # of Method.make_targets: what each view's target is cut from
        self.images, self.masks, self.views = images, masks, list(views)
        self.seed, self.uniforms, self.labels = seed, uniforms, labels
        self.unreadable = unreadable or UnreadableImages(len(images))
        # what is as long as the list of images, once a worker has been spawned
        self.shared: dict[str, list[torch.Tensor]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For a worker that is not forked: names and places travel in shared memory, not as a copy
        each. A forked worker shares them anyway."""
        if not self.shared:
            self.shared = {key: [torch.from_numpy(array.copy()).share_memory_()
                                 for array in lists.buffers()] if lists else []
                           for key, lists in (('images', self.images), ('masks', self.masks))}
            vars(self).update(self._lists(slice(None)))
        return {**vars(self), **self._lists(slice(1))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        vars(self).update(self._lists(slice(None)))

    def _lists(self, rows: slice) -> dict[str, Any]:
        """The images and masks over ``rows`` of what is in shared memory."""
        names, places = ([tensor.numpy()[rows] for tensor in self.shared[key]]
                         for key in ('images', 'masks'))
        images = self.images.over(*names)
        return {'images': images, 'masks': self.masks and self.masks.over(images, *places)}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: Position) -> dict[str, Any]:
        return self.sample(position)[1]

    def sample(self, position: Position) -> tuple[int, dict[str, Any]]:
        """Which image the sample at ``position`` is of, and the sample. In the place of an image
        that cannot be read comes the next in the list that can, so that one among a million stops
        no run and the same run meets the same pixels again.

        Raises:
            RunFailed: too many cannot be read, or a mask is wrong.
        """
        n, index = position
        for offset in range(len(self.images)):
            i = (index + offset) % len(self.images)
            try:
                sample = self._sample(n, i)
            except UnreadableImage as error:
                self.unreadable.note(self.images.name(i), error)
                continue
            if self.labels is not None:
                sample['target'] = [self.labels[i]] * len(self.views)
            return i, sample
        raise RunFailed(f'{self.unreadable.said()}: no image is left')

    def draw(self, n: int) -> tuple[np.random.Generator, int]:
        """The generator of the sample at position ``n``, and which of its label maps it takes."""
        rng = np.random.default_rng((self.seed, 1, n))   # 1: apart from the sampler's streams
        maps = self.masks.maps if self.masks else 1
        return rng, int(rng.integers(maps)) if maps > 1 else 0

    def _sample(self, n: int, i: int) -> dict[str, list[np.ndarray]]:
        """Image ``i`` with the random numbers of position ``n``: everything is drawn before a
        pixel is decoded, so that no more than the crops need is."""
        rng, which = self.draw(n)
        stored = self.images.open(i)
        drawn = draw_views(self.views, rng, *stored.size, self.uniforms)
        reduction = min(each.view.reduction(each.box) for each in drawn) if stored.reducible else 1
        image = stored.pixels(reduction)
        mask = self._mask(i, which, stored.size) if self.masks else None
        sample = cut_views(drawn, image, mask, reduction)
        if self.targets is not None:
            sample['target'] = [self.targets.cut(i, each.view, each.box, each.flip, stored.size)
                                for each in drawn]
        return sample

    def _mask(self, i: int, which: int, size: tuple[int, int]) -> np.ndarray:
        """Label map ``which`` of image ``i``; RunFailed if it is missing, damaged or not of
        ``size``."""
        try:
            mask = self.masks.read(i, which)
        except UnreadableImage as error:
            raise RunFailed(f'{error}; {self.masks.remedy}') from error
        if mask.shape != size:
            raise RunFailed(
                f'mask {self.masks.where(i, which)} is '
                f'{mask.shape[1]}×{mask.shape[0]} but its image is {size[1]}×{size[0]}: the image '
                f'has changed since; {self.masks.remedy}')
        return mask


def prepare_worker(worker: int) -> None:
    """Prepare a loader's worker process: one thread, and no death by the run's own signals."""
    cv2.setNumThreads(0)    # workers are the parallelism; threads in them fight over the cores
    torch.set_num_threads(1)
    outlive_signals()


def build_loader(dataset: ViewDataset, *, batch_size: int, num_workers: int, rank: int = 0,
                 world_size: int = 1, pin_memory: bool = False) -> DataLoader:
    """A loader over the infinite sequence of positions; ``batch_size`` is this rank's."""
    sampler = PositionSampler(len(dataset), batch_size, seed=dataset.seed, rank=rank,
                              world_size=world_size)
    return DataLoader(dataset, batch_size, sampler=sampler, num_workers=num_workers,
                      collate_fn=collate, pin_memory=pin_memory,
                      persistent_workers=num_workers > 0,
                      prefetch_factor=4 if num_workers else None, worker_init_fn=prepare_worker)
