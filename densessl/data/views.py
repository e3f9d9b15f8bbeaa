"""Views: what is drawn for a sample, and the geometry of image and mask on the CPU.

A sample at position n of the training sequence draws everything that belongs to it from
``(seed, n)``: crops, flips, the photometric parameters that the device applies later
(:mod:`densessl.data.photometric`), and uniforms for the method. Pixels stay uint8 here.
"""
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from densessl.data.photometric import PARAMETERS, parameters
from densessl.errors import UsageError

if TYPE_CHECKING:
    from densessl.method import Method

INTERPOLATIONS = {'bicubic': cv2.INTER_CUBIC, 'bilinear': cv2.INTER_LINEAR, 'area': cv2.INTER_AREA}


class AugmentedView:
    """One view of a sample: a random resized crop, a flip, and photometric parameters.

    Args:
        size: side of the square view, in pixels.
        area: range of the crop's share of the image's area.
        ratio: range of the crop's width / height.
        interpolation: ``'bicubic'``, ``'bilinear'`` or ``'area'``; masks take the nearest pixel.
        flip: probability of a horizontal flip.
        jitter: ``dict(p, brightness, contrast, saturation, hue)``; factors are drawn from
            U[max(0, 1 − x), 1 + x], the hue shift from U[−hue, hue] turns, the order at random.
        gray: probability of losing color.
        gray_first: whether color is lost before the jitter (MoCo v1) or after it.
        blur: ``dict(p, sigma=(low, high))``, sigma in pixels.
        solarize: ``dict(p, threshold)``, threshold in [0, 1].
    """

    def __init__(self, *, size: int, area: tuple[float, float] = (0.08, 1.0),
                 ratio: tuple[float, float] = (3 / 4, 4 / 3), interpolation: str = 'bicubic',
                 flip: float = 0.5, jitter: dict[str, float] | None = None, gray: float = 0.0,
                 gray_first: bool = False, blur: dict[str, Any] | None = None,
                 solarize: dict[str, float] | None = None) -> None:
        if interpolation not in INTERPOLATIONS:
            raise UsageError(f'interpolation {interpolation!r} is unknown; '
                             f'choices: {", ".join(INTERPOLATIONS)}')
        if not 0 < area[0] <= area[1] <= 1:
            raise UsageError(f'area {tuple(area)} must satisfy 0 < low <= high <= 1')
        if size < 1:
            raise UsageError(f'size {size} must be at least 1 pixel')
        self.size, self.area, self.ratio = size, tuple(area), tuple(ratio)
        self.interpolation, self.flip = INTERPOLATIONS[interpolation], flip
        self.photometric = dict(jitter=jitter, gray=gray, gray_first=gray_first, blur=blur,
                                solarize=solarize)

    def draw(self, rng: np.random.Generator, height: int, width: int
             ) -> tuple[tuple[int, int, int, int], bool, np.ndarray]:
        """Draw this view's parameters.

        Returns:
            The crop (top, left, height, width) in pixels, whether to flip, and the
            photometric parameters (P,) float32.
        """
        box = draw_crop(rng, height, width, self.area, self.ratio)
        return box, bool(rng.random() < self.flip), parameters(rng, **self.photometric)

    def cut(self, array: np.ndarray, box: tuple[int, int, int, int], flip: bool,
            *, label: bool = False) -> np.ndarray:
        """Crop, resize and flip an image (H, W, 3) or, with ``label``, a label map (H, W)."""
        top, left, height, width = box
        crop = array[top:top + height, left:left + width]
        if label:   # the same pixel centers as the image's resize, no mixing of ids
            crop = cv2.resize(crop, (self.size, self.size), interpolation=cv2.INTER_NEAREST_EXACT)
        else:
            crop = cv2.resize(crop, (self.size, self.size), interpolation=self.interpolation)
        return cv2.flip(crop, 1) if flip else crop


def view_class_of(method: type[Method]) -> type[AugmentedView]:
    """What a method's views are. A class of the method's own may cut a view into T images: its
    ``draw`` returns (geometry, flip, photometric parameters) with a geometry of its own making, and
    its ``cut(array, geometry, flip, label=…)`` returns (T, S, S, 3) or (T, S, S). Parameters belong
    to the view; its T images share them."""
    return method.view_class or AugmentedView


def draw_crop(rng: np.random.Generator, height: int, width: int, area: tuple[float, float],
              ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """Draw a crop of random area and aspect ratio, as Inception and torchvision's
    ``RandomResizedCrop`` do: ten tries, then the largest central crop of an allowed ratio.

    Returns:
        (top, left, height, width) in pixels.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(10):
        target = height * width * rng.uniform(*area)
        aspect = math.exp(rng.uniform(low, high))
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w = min(width, max(1, round(height * aspect)))
    h = min(height, max(1, round(width / aspect)))
    return (height - h) // 2, (width - w) // 2, h, w


def make_views(views: list[AugmentedView], rng: np.random.Generator, image: np.ndarray,
               mask: np.ndarray | None, uniforms: int) -> dict[str, list[np.ndarray]]:
    """Cut all views of one sample.

    Args:
        image: (H, W, 3) uint8 RGB; mask: (H, W) integer label map or None.
        uniforms: how many uniform numbers each view carries for the method.

    Returns:
        Lists over views: ``image`` (S, S, 3) uint8, ``mask`` (S, S) int32 (absent without a
        mask), ``photometric`` (P,) float32, ``uniforms`` (U,) float32.
    """
    sample: dict[str, list[np.ndarray]] = {'image': [], 'photometric': [], 'uniforms': []}
    if mask is not None:
        # INTER_NEAREST_EXACT knows no 32-bit integers but float32 holds every id below 2^24
        mask = mask if mask.dtype in (np.uint8, np.uint16) else mask.astype(np.float32)
        sample['mask'] = []
    for view in views:
        box, flip, photometric = view.draw(rng, *image.shape[:2])
        sample['image'].append(view.cut(image, box, flip))
        sample['photometric'].append(photometric)
        sample['uniforms'].append(rng.random(uniforms, dtype=np.float32))
        if mask is not None:
            sample['mask'].append(view.cut(mask, box, flip, label=True).astype(np.int32))
    assert len(sample['photometric'][0]) == len(PARAMETERS)
    return sample
