"""Equal rectangles: regions that know nothing of the image."""
from __future__ import annotations

import numpy as np

from densessl import MaskGenerator
from densessl.errors import UsageError


class Grid(MaskGenerator):
    """``rows`` × ``cols`` rectangles of equal size (± one pixel), numbered row by row; as many as
    there are pixels where the image is smaller than the grid."""

    name = 'grid'
    version = 1

    def __init__(self, *, rows: int = 4, cols: int = 4) -> None:
        if not all(isinstance(value, int) and value >= 1 for value in (rows, cols)):
            raise UsageError(f'grid needs whole numbers rows ≥ 1 and cols ≥ 1, not rows={rows!r}, '
                             f'cols={cols!r}')
        self.rows, self.cols = rows, cols

    def __call__(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        rows, cols = min(self.rows, height), min(self.cols, width)
        row = np.arange(height) * rows // height
        col = np.arange(width) * cols // width
        return row[:, None] * cols + col            # (H, W)
