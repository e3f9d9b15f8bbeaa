"""SLIC superpixels (Achanta et al. 2012), by scikit-image."""
from __future__ import annotations

from typing import Annotated

import numpy as np

from densessl import MaskGenerator
from densessl.bounds import Range, check_values


class Slic(MaskGenerator):
    """Compact regions of about equal size: k-means of color (CIELAB) and place.

    Args:
        n_segments: about how many regions.
        compactness: how much place counts against color; larger makes squarer regions.
        sigma: standard deviation of the Gaussian that smooths the image first, in pixels.
    """

    name = 'slic'

    def __init__(self, *, n_segments: Annotated[int, Range(1, 2 ** 16)] = 64,
                 compactness: Annotated[float, Range(above=0, most=1e6)] = 10.0,
                 sigma: Annotated[float, Range(0, 100)] = 0.0) -> None:
        check_values(Slic, dict(n_segments=n_segments, compactness=compactness, sigma=sigma),
                     'slic: ')
        self.n_segments, self.compactness, self.sigma = n_segments, compactness, sigma

    def __call__(self, image: np.ndarray) -> np.ndarray:
        from skimage.segmentation import relabel_sequential, slic
        labels = slic(image, self.n_segments, self.compactness, sigma=self.sigma, start_label=1)
        return relabel_sequential(labels)[0] - 1
