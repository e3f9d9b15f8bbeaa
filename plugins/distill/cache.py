"""A teacher's features of whole, unaugmented images, computed once and kept on the disk; what a
view shows of them is cut out by its crop and flip."""
from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.device import get_device
from torch import Tensor
from torchvision.ops import roi_align

from densessl.errors import UsageError
from densessl.files.folders import cache_root, require_cache
from densessl.files.writing import write_atomically
from densessl.images.image_list import ImageList
from densessl.pixels.decode import UnreadableImage
from densessl.pixels.scaled_size import scaled_size
from densessl.progress import Progress
from densessl.views.view import AugmentedView
from densessl_plugins.distill.teacher import Teacher

FOLDER = 'teachers'     # in the cache
PATCHES = 2             # samples a side of a cell, when maps are cut
# what numpy's reader raises of files that are damaged somewhere
DAMAGED = (OSError, ValueError, KeyError, EOFError, RuntimeError, TypeError, AttributeError,
           MemoryError, zlib.error, zipfile.BadZipFile)


class CachedFeatures:
    """The features of a teacher by image.

    Args:
        images: the unlabelled images.
        teacher: whose features.
        side: the short side in pixels at which it sees an image; both sides become multiples of
            its stride.
    """

    def __init__(self, images: ImageList, teacher: Teacher, side: int) -> None:
        key = f'{images.root} {images.digest()} {images.rule} {teacher.link["sha256"]} ' \
              f'{teacher.reads} {teacher.stage} {side}'
        digest = hashlib.sha256(key.encode('utf-8', 'surrogateescape')).hexdigest()[:16]
        self.folder = cache_root() / FOLDER / f'{images.root.name[:80] or "images"}-{digest}'
        self.side, self.stride = side, teacher.stride

    def cut(self, i: int, view: AugmentedView, box: tuple[int, int, int, int], flip: bool,
            size: tuple[int, int]) -> np.ndarray:
        """What a view shows of the features of image ``i``: (C, s, s) float16, s of the teacher's
        cells in the view.

        Args:
            box: top, left, height and width of the view's crop of the image. size: (H, W) of that.

        Raises:
            UsageError: what is kept of the image was damaged after it was looked at.
        """
        try:
            with np.load(self.path(i)) as kept:
                whole = torch.from_numpy(kept['features']).float()[None]      # (1, C, h, w)
        except FileNotFoundError as error:
            raise UsageError(f'{self.path(i)}, features of the teacher, is gone, or its image '
                             f'could not be read before: the same command with --resume computes '
                             f'it') from error
        except DAMAGED as error:
            raise UsageError(f'{self.path(i)}, features of the teacher, cannot be read ({error}): '
                             f'delete it, and the same command with --resume computes it anew'
                             ) from error
        cells = max(1, round(view.size / self.stride))
        part = cut_map(whole, box, size, cells)
        return (part.flip(-1) if flip else part)[0].half().numpy()

    def path(self, i: int) -> Path:
        """Where the features of image ``i`` are."""
        return self.folder / f'{i // 1000:04d}' / f'{i:07d}.npz'

    def build(self, images: ImageList, teacher: Teacher) -> int:
        """Compute what is not there, was cut short, or is of an image whose size or time has
        changed; return how many that were.

        Raises:
            UsageError: features that cannot be kept.
        """
        require_cache()
        teacher.module.to(get_device())
        made = 0
        with Progress('teacher', len(images)) as progress:
            for i in range(len(images)):
                made += self._make(i, images, teacher)
                progress.update(i + 1)
        return made

    def _make(self, i: int, images: ImageList, teacher: Teacher) -> bool:
        path = self.path(i)
        try:
            state = images.stat(i)
            if _is_of(path, state):
                return False
            pixels = images.read(i)
        except UnreadableImage:     # training passes over it, too, and says so
            return False
        features = teacher.whole(self._resized(pixels)).half().cpu()
        if not torch.isfinite(features).all():
            raise UsageError(f'model.teacher {teacher.file.name}: of {images.name(i)} it computes '
                             f'features that float16, as they are kept, cannot hold: give '
                             f'model.cached=None')
        content = io.BytesIO()
        np.savez(content, features=features.numpy(), image=np.array(state))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content.getvalue(), shared=True, flush=False)
        return True

    def _resized(self, pixels: np.ndarray) -> np.ndarray:
        height, width = scaled_size(pixels.shape[:2], self.side, self.stride)
        how = cv2.INTER_AREA if self.side < min(pixels.shape[:2]) else cv2.INTER_CUBIC
        return cv2.resize(pixels, (width, height), interpolation=how)


def cut_map(whole: Tensor, box: tuple[int, int, int, int], size: tuple[int, int], cells: int
            ) -> Tensor:
    """A part of a map on a grid of its own, averaged over :data:`PATCHES` bilinear samples a side.

    Args:
        whole: (1, C, h, w) of an image of ``size`` (H, W) pixels; box: top, left, height, width in
            pixels of that.

    Returns:
        (1, C, cells, cells).
    """
    top, left, height, width = box
    y, x = whole.shape[-2] / size[0], whole.shape[-1] / size[1]
    corners = torch.tensor([[0, left * x, top * y, (left + width) * x, (top + height) * y]])
    return roi_align(whole, corners, (cells, cells), sampling_ratio=PATCHES, aligned=True)


def _is_of(path: Path, state: tuple[int, int]) -> bool:
    """Whether ``path`` holds the features of an image of this size in bytes and this time."""
    try:
        with np.load(path) as kept:     # the list of a zip's members is at its end
            return tuple(kept['image'].tolist()) == state and 'features' in kept
    except DAMAGED:
        return False
