"""Felzenszwalb & Huttenlocher's segmentation at several scales: one label map for each."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densessl import MaskGenerator
from densessl.errors import UsageError
from densessl_plugins.masks.felzenszwalb import Felzenszwalb, RegionSize, Scale, Sigma


class MultiscaleFelzenszwalb(MaskGenerator):
    """A label map for every scale; training draws one of them for each sample.

    Args:
        scales: k of the paper, one for each label map; larger makes larger regions.
        sigma: standard deviation of the Gaussian that smooths the image first, in pixels.
        min_size: regions below this many pixels are merged with a neighbor: one number, or one
            for each scale; by default each scale's own (as the published 1000 and 1000).
    """

    name = 'multiscale_felzenszwalb'
    version = Felzenszwalb.version

    def __init__(self, *, scales: Sequence[Scale] = (250.0, 500.0, 1000.0),
                 sigma: Sigma = 0.8,
                 min_size: RegionSize | Sequence[RegionSize] | None = None) -> None:
        if not isinstance(scales, list | tuple) or not scales:
            raise UsageError(f'{self.name} needs scales, such as [250, 500, 1000], not {scales!r}')
        sizes = scales if min_size is None else min_size
        sizes = sizes if isinstance(sizes, list | tuple) else [sizes] * len(scales)
        if len(sizes) != len(scales):
            raise UsageError(f'{self.name} has {len(scales)} scales but {len(sizes)} values of '
                             f'min_size={min_size!r}')
        self._each = [Felzenszwalb(scale=scale, sigma=sigma, min_size=size)
                      for scale, size in zip(scales, sizes, strict=True)]
        self.scales, self.sigma, self.min_size = list(scales), sigma, min_size
        self.maps = len(scales)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        from densessl_plugins.masks.felzenszwalb_kernel import divide, edge_bins
        bins = edge_bins(image, self._each[0].sigma)                    # of all scales
        labels = [divide(bins, each.scale, each.min_size) for each in self._each]
        return np.stack(labels) if self.maps > 1 else labels[0]         # (maps, H, W) or (H, W)
