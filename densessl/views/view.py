"""Views: what is drawn for a sample, and the geometry of image and mask on the CPU.

A sample at position n of the training sequence draws everything that belongs to it from
``(seed, n)``: crops, flips, the photometric parameters that the device applies later
(:mod:`densessl.views.photometry`), and uniforms for the method. Pixels stay uint8 here.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np

from densessl.bounds import Share, check_section, check_value, pair, whole
from densessl.views.crops import CROPS
from densessl.views.photometry_draw import (
    DEFAULT_STYLE,
    PARAMETERS,
    check_parameters,
    kernel_of,
    parameters,
)

if TYPE_CHECKING:
    from densessl.method import Method

REDUCTIONS = (1, 2, 4, 8)
LARGEST = 4096       # side of a view, in pixels
INTERPOLATIONS = {'bicubic': cv2.INTER_CUBIC, 'bilinear': cv2.INTER_LINEAR, 'area': cv2.INTER_AREA}

KINDS = {'interpolation': Literal[tuple(INTERPOLATIONS)], 'area': pair(1e-6, 1),
         'ratio': pair(0.01, 100), 'flip': Share, 'crop': Literal[tuple(CROPS)], 'reduced': bool}


class AugmentedView:
    """One view of a sample: a random resized crop, a flip, and photometric parameters.

    Args:
        size: side of the square view, in pixels.
        style: whose formulas: ``'torchvision'`` or ``'tensorflow'``, in which BYOL, DetCon and
            SimCLR were released. It decides ``crop``, ``reduced`` and the jitter's brightness
            where they are not given, how bicubic resizing, contrast, saturation and the border of
            a blur are computed (docs/input.md has a table).
        area: range of the crop's share of the image's area.
        ratio: range of the crop's width / height.
        crop: the sampler: ``'retried'`` (torchvision's, ten tries), ``'clipped'`` (one draw, sides
            clipped to the image: BYOL and DetCon; the default of ``style='tensorflow'``) or
            ``'distorted_box'`` (``tf.image.sample_distorted_bounding_box``: SimCLR).
        interpolation: ``'bicubic'``, ``'bilinear'`` or ``'area'``; masks take the nearest pixel.
        flip: probability of a horizontal flip.
        jitter: ``dict(p, brightness, contrast, saturation, hue, brightness_rule)``; factors are
            drawn from U[max(0, 1 − x), 1 + x], the hue shift from U[−hue, hue] turns, the order
            at random. With ``brightness_rule='add'``, the default of ``style='tensorflow'``,
            U[−x, x] is added to the pixels, with ``'multiply'`` there is a factor.
        gray: probability of losing color.
        gray_first: whether color is lost before the jitter (MoCo v1) or after it.
        blur: ``dict(p, sigma=(low, high), kernel)``, in pixels; the side of the kernel is a tenth
            of the view's, odd (23 for 224), if not given.
        solarize: ``dict(p, threshold)``, threshold in [0, 1].
        reduced: whether a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size where this and every
            other view's crop is still at least ``size`` pixels wide and high then. Nothing
            changes for crops below 2 × ``size``. Above, bicubic and bilinear resizing alone skip
            pixels, as TensorFlow's does but not Pillow's, which averages; a reduced image was
            averaged by the decoder, which is nearer to Pillow's (docs/input.md has the
            numbers). The crop snaps to the reduced pixels: it moves by less than one of them.
            By default so in torchvision's style and not in TensorFlow's.

    Raises:
        UsageError: a value that is of another kind or out of its bounds, by its key.
    """

    def __init__(self, *, size: int, style: str = DEFAULT_STYLE,
                 area: tuple[float, float] = (0.08, 1.0),
                 ratio: tuple[float, float] = (3 / 4, 4 / 3), crop: str | None = None,
                 interpolation: str = 'bicubic', flip: float = 0.5,
                 jitter: dict[str, Any] | None = None, gray: float = 0.0,
                 gray_first: bool = False, blur: dict[str, Any] | None = None,
                 solarize: dict[str, float] | None = None, reduced: bool | None = None) -> None:
        check_value('size', size, whole(1, LARGEST))
        if isinstance(blur, Mapping):
            blur = {'kernel': kernel_of(size), **blur}
        self.photometric = dict(style=style, jitter=jitter, gray=gray, gray_first=gray_first,
                                blur=blur, solarize=solarize)
        check_parameters(size=size, **self.photometric)
        if crop is None:
            crop = 'clipped' if style == 'tensorflow' else 'retried'
        if reduced is None:
            reduced = style != 'tensorflow'
        check_section('', dict(interpolation=interpolation, area=area, ratio=ratio, flip=flip,
                               crop=crop, reduced=reduced), KINDS)
        self.size, self.area, self.ratio = size, tuple(area), tuple(ratio)
        self.flip, self.reduced = flip, reduced
        self._draw_crop, self._resize = CROPS[crop], resizing(interpolation, style)

    def draw(self, rng: np.random.Generator, height: int, width: int
             ) -> tuple[tuple[int, int, int, int], bool, np.ndarray]:
        """Draw this view's parameters.

        Returns:
            The crop (top, left, height, width) in pixels, whether to flip, and the
            photometric parameters (P,) float32.
        """
        box = self._draw_crop(rng, height, width, self.area, self.ratio)
        return box, bool(rng.random() < self.flip), parameters(rng, **self.photometric)

    def frame(self, geometry: Any) -> tuple[int, int, int, int]:
        """The part of the image (top, left, height, width) that a drawn geometry is cut from, for
        pictures of it."""
        return geometry

    def reduction(self, box: tuple[int, int, int, int]) -> int:
        """By how much, 1, 2, 4 or 8, the image may be reduced before ``box`` is cut from it; always
        1 for a subclass that draws a geometry of its own."""
        if not self.reduced or type(self).draw is not AugmentedView.draw:
            return 1
        return max(r for r in REDUCTIONS if r == 1 or min(box[2:]) >= r * self.size)

    def cut(self, array: np.ndarray, box: tuple[int, int, int, int], flip: bool,
            *, label: bool = False) -> np.ndarray:
        """Crop, resize and flip an image (H, W, 3) or, with ``label``, a label map (H, W)."""
        # the same pixel centers for both, no mixing of ids
        crop = (_nearest if label else self._resize)(array, box, self.size)
        return cv2.flip(crop, 1) if flip else crop


def view_class_of(method: type[Method]) -> type[AugmentedView]:
    """What a method's views are. A class of the method's own may cut a view into T images: its
    ``draw`` returns (geometry, flip, photometric parameters) with a geometry of its own making,
    its ``cut(array, geometry, flip, label=…)`` returns (T, S, S, 3) or (T, S, S), its ``frame``
    where in the image that is. Parameters belong
    to the view; its T images share them."""
    return method.view_class or AugmentedView


def resizing(interpolation: str, style: str) -> Callable[..., np.ndarray]:
    """``function(image, box, size)`` that resizes a part of an image to a square."""
    if (interpolation, style) == ('bicubic', 'tensorflow'):
        # numba takes a third of a second; here it comes before loader workers are forked
        from densessl.views.bicubic import resize_crop
        return resize_crop
    return partial(_by_opencv, INTERPOLATIONS[interpolation])


def _by_opencv(flag: int, array: np.ndarray, box: tuple[int, int, int, int], size: int
               ) -> np.ndarray:
    top, left, height, width = box
    return cv2.resize(array[top:top + height, left:left + width], (size, size), interpolation=flag)


_nearest = partial(_by_opencv, cv2.INTER_NEAREST_EXACT)


@dataclass(frozen=True)
class DrawnView:
    """What was drawn for one view of one sample, before any pixel is known."""

    view: AugmentedView
    box: tuple[int, int, int, int]
    flip: bool
    photometric: np.ndarray      # (P,) float32
    uniforms: np.ndarray         # (U,) float32


def draw_views(views: list[AugmentedView], rng: np.random.Generator, height: int, width: int,
               uniforms: int) -> list[DrawnView]:
    """Draw all views of one sample of an image of ``height`` × ``width`` pixels; ``uniforms`` is
    how many uniform numbers each view carries for the method."""
    drawn = []
    for view in views:
        box, flip, photometric = view.draw(rng, height, width)
        assert len(photometric) == len(PARAMETERS)
        drawn.append(DrawnView(view, box, flip, photometric, rng.random(uniforms, np.float32)))
    return drawn


def cut_views(drawn: list[DrawnView], image: np.ndarray, mask: np.ndarray | None,
              reduction: int = 1) -> dict[str, list[np.ndarray]]:
    """Cut all views of one sample; see :func:`make_views`. ``image`` may be ``reduction`` times
    smaller than what was drawn for; boxes then snap to its pixels, in the mask as in the image."""
    sample: dict[str, list[np.ndarray]] = {
        'image': [], 'photometric': [each.photometric for each in drawn],
        'uniforms': [each.uniforms for each in drawn]}
    if mask is not None:
        # INTER_NEAREST_EXACT knows no 32-bit integers but float32 holds every id below 2^24
        mask = mask if mask.dtype in (np.uint8, np.uint16) else mask.astype(np.float32)
        sample['mask'] = []
    for each in drawn:
        inner, box = each.box, each.box
        if reduction > 1:
            inner = tuple(side // reduction for side in box)
            box = tuple(side * reduction for side in inner)
        sample['image'].append(each.view.cut(image, inner, each.flip))
        if mask is not None:
            ids = each.view.cut(mask, box, each.flip, label=True)
            sample['mask'].append(ids.astype(np.int32) if ids.dtype == np.float32 else ids)
    return sample


def make_views(views: list[AugmentedView], rng: np.random.Generator, image: np.ndarray,
               mask: np.ndarray | None, uniforms: int) -> dict[str, list[np.ndarray]]:
    """Draw and cut all views of one sample.

    Args:
        image: (H, W, 3) uint8 RGB; mask: (H, W) integer label map or None.
        uniforms: how many uniform numbers each view carries for the method.

    Returns:
        Lists over views: ``image`` (S, S, 3) uint8, ``mask`` (S, S) uint8 or uint16 as the label
        map is, else int32 (absent without a mask), ``photometric`` (P,) float32, ``uniforms``
        (U,) float32.
    """
    return cut_views(draw_views(views, rng, *image.shape[:2], uniforms), image, mask)
