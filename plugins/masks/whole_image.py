"""One region: the baseline without regions."""
from __future__ import annotations

import numpy as np

from densessl import MaskGenerator


class WholeImage(MaskGenerator):
    """The whole image is one region, which makes an object-level method an image-level one."""

    name = 'whole_image'

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return np.zeros(image.shape[:2], np.uint8)
