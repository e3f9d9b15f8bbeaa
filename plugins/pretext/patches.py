"""A view that is a grid of patches, and their encoding one by one.

What would let a network solve a task without looking at objects is taken away here: lines and
textures that go on across a border (``gap`` and ``shift``), and the lens, whose chromatic
aberration tells where in the image a patch was (``gray`` and :func:`standardize`). See Doersch et
al. 2015, section 3.1, "Avoiding trivial solutions", and Noroozi & Favaro 2016, section 3.3.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from densessl.bounds import check_section, check_value, whole
from densessl.errors import UsageError
from densessl.views.photometry_draw import kernel_of, parameters
from densessl.views.view import LARGEST, AugmentedView


class PatchBoxes(NamedTuple):
    """Where the patches of one sample are."""

    crop: tuple[int, int, int, int]   # top, left, height, width in pixels of the image
    corners: np.ndarray               # (T, 2) top, left of each patch in the resized crop


class PatchGrid(AugmentedView):
    """A square crop at one scale, cut into ``grid`` × ``grid`` patches, row by row.

    Each patch lies in a cell of its own, ``patch + shift`` pixels wide, at a random place; cells
    are ``gap`` pixels apart. So neighbors are ``gap`` to ``gap + 2·shift`` pixels apart, and the
    crop's side is ``grid · (patch + shift + gap) − gap``.

    Args:
        patch: side of a patch as the network sees it, in pixels.
        grid: patches in a row and in a column.
        shift: how far a patch may move within its cell (the papers' jitter), in pixels.
        gap: pixels between cells; negative if they overlap.
        resize: the image's short side is scaled to this before the crop, in pixels.
        inner: a random square of this side is kept of each patch and its edge repeated around it
            up to ``patch`` (CPC: 60 of 64); None keeps all of it.
        interpolation, flip, jitter, gray, gray_first, blur, solarize: of the whole crop, as in
            ``AugmentedView``; a blur's kernel follows the side of a patch, which is what is
            blurred.

    Raises:
        UsageError: a value that is of another kind or out of its bounds, by its key.
    """

    def __init__(self, *, patch: int = 64, grid: int = 3, shift: int = 21, gap: int = 0,
                 resize: int = 256, inner: int | None = None, interpolation: str = 'bilinear',
                 flip: float = 0.0, jitter: dict[str, float] | None = None, gray: float = 0.0,
                 gray_first: bool = False, blur: dict[str, Any] | None = None,
                 solarize: dict[str, float] | None = None) -> None:
        check_value('patch', patch, whole(1, 1024))
        inner = patch if inner is None else inner
        check_section('', dict(inner=inner, grid=grid, shift=shift, gap=gap, resize=resize), dict(
            inner=whole(1, patch), grid=whole(1, LARGEST // patch), shift=whole(0, 1024),
            gap=whole(1 - patch, 1024), resize=whole(1, LARGEST)))
        if isinstance(blur, Mapping):
            blur = {'kernel': kernel_of(patch), **blur}
        side = grid * (patch + shift + gap) - gap
        if resize < side:
            raise UsageError(f'resize {resize} is smaller than the crop: {grid} patches of {patch} '
                             f'with shift {shift} and gap {gap} need {side} pixels')
        super().__init__(size=side, interpolation=interpolation, flip=flip, jitter=jitter,
                         gray=gray, gray_first=gray_first, blur=blur, solarize=solarize)
        self.patch, self.grid, self.shift, self.gap = patch, grid, shift, gap
        self.resize, self.inner = resize, inner

    def draw(self, rng: np.random.Generator, height: int, width: int
             ) -> tuple[PatchBoxes, bool, np.ndarray]:
        """As ``AugmentedView.draw``: the patches' boxes, whether to flip, photometry."""
        short = min(height, width)
        side = max(1, round(self.size / self.resize * short))   # of the crop, in the image
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        crop = (int(top), int(left), side, side)
        cells = np.arange(self.grid) * (self.patch + self.shift + self.gap)
        corners = np.stack(np.meshgrid(cells, cells, indexing='ij'), -1).reshape(-1, 2)
        room = self.shift + self.patch - self.inner
        boxes = PatchBoxes(crop, corners + rng.integers(room + 1, size=corners.shape))
        return boxes, bool(rng.random() < self.flip), parameters(rng, **self.photometric)

    def frame(self, geometry: PatchBoxes) -> tuple[int, int, int, int]:
        return geometry.crop

    def cut(self, array: np.ndarray, box: PatchBoxes, flip: bool, *, label: bool = False
            ) -> np.ndarray:
        """Cut an image (H, W, 3) into (T, S, S, 3) or, with ``label``, a label map (H, W) into
        (T, S, S)."""
        whole = super().cut(array, box.crop, flip, label=label)
        patches = [whole[y:y + self.inner, x:x + self.inner] for y, x in box.corners]
        border = self.patch - self.inner
        if border:
            before, after = border // 2, border - border // 2
            patches = [cv2.copyMakeBorder(patch, before, after, before, after,
                                          cv2.BORDER_REPLICATE) for patch in patches]
        return np.stack(patches)


def standardize(patches: Tensor) -> Tensor:
    """Give each channel of each patch mean 0 and deviation 1: what a patch's brightness and tint
    say of its place in the image is gone.

    Args:
        patches: (…, H, W) float.

    Returns:
        The same shape. A deviation below 1/√(H·W) counts as that, as in TensorFlow's
        ``per_image_standardization``, so that a blank patch is 0 and not noise.
    """
    variance, mean = torch.var_mean(patches, (-2, -1), correction=0, keepdim=True)
    least = 1 / (patches.shape[-2] * patches.shape[-1])
    return (patches - mean) * variance.clamp(min=least).rsqrt()


def encode_patches(backbone: nn.Module, patches: Tensor, stage: int = -1) -> Tensor:
    """Encode each patch alone: (B, T, 3, S, S) → (B, T, C), averaged over its feature map."""
    if patches.ndim != 5:
        raise UsageError(f'this method needs views of patches (B, T, 3, H, W), not '
                         f'{tuple(patches.shape)}')
    features = backbone(patches.flatten(0, 1))[stage].mean((2, 3))        # (B·T, C)
    return features.unflatten(0, patches.shape[:2])
