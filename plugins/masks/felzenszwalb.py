"""Felzenszwalb & Huttenlocher (IJCV 2004) graph-based segmentation: the fast one and the usual."""
from __future__ import annotations

import numpy as np

from densessl import MaskGenerator
from densessl.errors import UsageError


class Felzenszwalb(MaskGenerator):
    """Regions that grow while their inner differences allow it, by a compiled kernel.

    Defaults are those of DetCon (Hénaff et al. 2021, Section 3.1; ``scale`` and ``min_size`` as
    in the released code, σ as in scikit-image). The first call of a new installation compiles the
    kernel, which takes some seconds.

    Args:
        scale: k of the paper: larger makes larger regions. Colors count from 0 to 255.
        sigma: standard deviation of the Gaussian that smooths the image first, in pixels.
        min_size: regions below this many pixels are merged with a neighbor.
    """

    name = 'felzenszwalb'
    version = 2         # 1 was scikit-image's, which orders edges of equal weight otherwise

    def __init__(self, *, scale: float = 1000.0, sigma: float = 0.8, min_size: int = 1000) -> None:
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool)
                      for value in (scale, sigma, min_size))
        if not numbers or not (0 < scale <= 1e9 and 0 <= sigma <= 100 and 0 <= min_size <= 1e9):
            raise UsageError(f'{self.name} needs numbers scale > 0, sigma ≥ 0 and min_size ≥ 0 '
                             f'(at most 1e9, 100 and 1e9), not scale={scale!r}, sigma={sigma!r}, '
                             f'min_size={min_size!r}')
        self.scale, self.sigma, self.min_size = float(scale), float(sigma), int(min_size)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        from densessl_plugins.masks.felzenszwalb_kernel import felzenszwalb
        return felzenszwalb(image, self.scale, self.sigma, self.min_size)


class FelzenszwalbSkimage(Felzenszwalb):
    """The same by scikit-image: twenty-five times slower, and what the kernel is tested against."""

    name = 'felzenszwalb_skimage'
    version = 1

    def __call__(self, image: np.ndarray) -> np.ndarray:
        from skimage.segmentation import felzenszwalb
        return felzenszwalb(image, scale=self.scale, sigma=self.sigma, min_size=self.min_size,
                            channel_axis=-1)
