"""Felzenszwalb & Huttenlocher (IJCV 2004) graph-based segmentation: the fast one and the usual."""
from __future__ import annotations

from typing import Annotated

import numpy as np

from densessl import MaskGenerator
from densessl.bounds import Range, check_values

Scale = Annotated[float, Range(above=0, most=1e9)]
Sigma = Annotated[float, Range(0, 100)]       # its kernel has 8 σ taps
RegionSize = Annotated[int | float, Range(0, 2 ** 31 - 1)]


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

    def __init__(self, *, scale: Scale = 1000.0, sigma: Sigma = 0.8,
                 min_size: RegionSize = 1000) -> None:
        check_values(Felzenszwalb, dict(scale=scale, sigma=sigma, min_size=min_size),
                     f'{self.name}: ')      # of whoever builds it: they reach compiled code
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
