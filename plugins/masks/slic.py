"""SLIC superpixels (Achanta et al. 2012), by scikit-image."""
from __future__ import annotations

from math import inf

import numpy as np

from densessl import MaskGenerator
from densessl.errors import UsageError


class Slic(MaskGenerator):
    """Compact regions of about equal size: k-means of color (CIELAB) and place.

    Args:
        n_segments: about how many regions.
        compactness: how much place counts against color; larger makes squarer regions.
        sigma: standard deviation of the Gaussian that smooths the image first, in pixels.
    """

    name = 'slic'

    def __init__(self, *, n_segments: int = 64, compactness: float = 10.0, sigma: float = 0.0
                 ) -> None:
        if not isinstance(n_segments, int) or n_segments < 1:
            raise UsageError(f'slic needs a whole number n_segments ≥ 1, not {n_segments!r}')
        numbers = all(isinstance(value, int | float) for value in (compactness, sigma))
        if not numbers or not (0 < compactness < inf and 0 <= sigma < inf):
            raise UsageError(f'slic needs numbers compactness > 0 and sigma ≥ 0, not '
                             f'compactness={compactness!r}, sigma={sigma!r}')
        self.n_segments, self.compactness, self.sigma = n_segments, compactness, sigma

    def __call__(self, image: np.ndarray) -> np.ndarray:
        from skimage.segmentation import relabel_sequential, slic
        labels = slic(image, self.n_segments, self.compactness, sigma=self.sigma, start_label=1)
        return relabel_sequential(labels)[0] - 1
