"""Equal rectangles: regions that know nothing of the image."""
from __future__ import annotations

from typing import Annotated

import numpy as np

from densessl import MaskGenerator
from densessl.bounds import Range, check_values

Count = Annotated[int, Range(1, 2 ** 16)]


class Grid(MaskGenerator):
    """``rows`` × ``cols`` rectangles of equal size (± one pixel), numbered row by row; as many as
    there are pixels where the image is smaller than the grid."""

    name = 'grid'
    version = 1

    def __init__(self, *, rows: Count = 4, cols: Count = 4) -> None:
        check_values(Grid, dict(rows=rows, cols=cols), 'grid: ')
        self.rows, self.cols = rows, cols

    def __call__(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        rows, cols = min(self.rows, height), min(self.cols, width)
        row = np.arange(height) * rows // height
        col = np.arange(width) * cols // width
        return row[:, None] * cols + col            # (H, W)
